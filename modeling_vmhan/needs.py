"""Options that change nothing unless another one is as they need it, in tables: none is passed over in silence."""

import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple


__all__ = ["Need", "unmet"]


class Need(NamedTuple):
    """`option` changes something only beside an `other` for which `holds`; `wanted` says that in words, behind its
    name.
    """

    option: str
    other: str
    wanted: str
    holds: Callable[[Any], Any] = bool


def unmet(
    needs: Iterable[Need],
    values: Mapping[str, Any],
    given: Collection[str] | None = None,
    *,
    last: Collection[str] = (),
    flag: str = "",
) -> Iterator[str]:
    """What is wrong with each option that was given without what it needs.

    values: of all options, None or none where one is left out; given: the names of those that somebody chose (None:
    all of `values`); last: of those that replace defaults of an option that is not among them, and so take it back.

    Example:
        >>> next(unmet([Need("seed", "num_samples", "of at least 1")], {"seed": 3}))
        'seed: expected num_samples of at least 1, received seed 3 without num_samples, where it changes nothing.'
    """
    for option, other, wanted, holds in needs:
        value, chosen = values.get(other), option in (values if given is None else given)
        if chosen and not holds(value) and (option in last or other not in last):
            there = f"without {flag}{other}" if value is None else f"with {flag}{other} {reprlib.repr(value)}"
            own = f" {values[option]}" if isinstance(values[option], (int, float)) else ""  # others may be secret
            received = f"received {flag}{option}{own} {there}"
            yield f"{flag}{option}: expected {flag}{other} {wanted}, {received}, where it changes nothing."
