"""What precision a score had on validation: the table that is saved with a model, and the score that a user asks for.

A table has rows (score, precision, recall), lowest score first: those of the answers with at least this score.
"""

from typing import Any

from .values import shown


__all__ = ["TABLES", "least_score", "read_precision_tables"]

TABLES = ("pairs", "posts")  # of given pairs, and of facts found in raw posts


def least_score(table: list[list[float]] | None, precision: float) -> float:
    """The lowest score of a table whose precision is at least `precision`; a ValueError names the best that there is.

    Example:
        >>> least_score([[0.4, 0.5, 0.9], [0.7, 0.8, 0.6]], 0.75)
        0.7
    """
    if not table:
        raise ValueError(
            f"min_precision={precision}: this model's config has no precision_table for such questions, as nothing "
            "was measured on a validation split, or too little. Pass min_score=SCORE."
        )
    reached = [score for score, reached, _ in table if reached >= precision]
    if not reached:
        score, best, recall = max(table, key=lambda row: (row[1], row[2]))
        raise ValueError(
            f"min_precision={precision}: expected at most {best:.3f}, the best precision of this model on its "
            f"validation split, at the score {score:.3f} with the recall {recall:.3f}."
        )
    return min(reached)


def read_precision_tables(value: Any) -> dict[str, list[list[float]]] | None:
    """The field precision_table of a config: None, or tables by name; else a ValueError."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value.keys() <= set(TABLES):
        raise ValueError(f"precision_table must be None or a dict of {list(TABLES)}, received {value!r}.")
    tables = {}
    for name, rows in value.items():
        is_rows = isinstance(rows, (list, tuple)) and all(map(_is_row, rows))
        if not is_rows or any(low[0] >= high[0] for low, high in zip(rows, rows[1:])):
            rule = "a list of [score, precision, recall], numbers from 0 to 1, lowest score first"
            raise ValueError(f"precision_table, {name}, must be {rule}, received {shown(rows)}.")
        tables[name] = [[float(number) for number in row] for row in rows]
    return tables


def _is_row(row: Any) -> bool:
    if not isinstance(row, (list, tuple)) or len(row) != 3:
        return False
    return all(isinstance(of, (int, float)) and not isinstance(of, bool) and 0 <= of <= 1 for of in row)
