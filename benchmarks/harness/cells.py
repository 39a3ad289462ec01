"""What the cells of the benchmarks' tables say of numbers."""

__all__ = ["between", "percent"]


def between(low: float, middle: float, high: float, pattern: str) -> str:
    """As "middle (low to high)"."""
    low, middle, high = (format(value, pattern) for value in (low, middle, high))
    return f"{middle} ({low} to {high})"


def percent(value: float | None, deviation: float | None = None) -> str:
    """A share in percent, with its deviation in brackets where there is one; None is a dash."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ({100 * deviation:.1f})" if deviation is not None else "")
