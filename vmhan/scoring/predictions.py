"""The predictions.jsonl of a run, read and checked once: what every score, report and picture is made from.

One row a pair; n pairs, R labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modeling_vmhan.labels import find_none_label


__all__ = ["Predictions", "read_predictions"]

PREDICTIONS_FILE = "predictions.jsonl"
CONFIG_FILE = "config.json"
REQUIRED = {"split": str, "id": str, "pair": int, "relation": str, "predicted": str}
FIX = "Make the file with run_mmre.py, and leave it as it is"


@dataclass(frozen=True)
class Predictions:
    """Rows of a predictions.jsonl, in the file's order.

    Attributes:
        rows: dicts with at least split, id (of the post, that is, of the sentence), pair (number in the post),
            relation (gold name) and predicted (name).
        labels: every label name, the none label included; order = id.
        none_label: the label that means "no relation".
        path: the file.
    """

    rows: list[dict[str, Any]]
    labels: list[str]
    none_label: str
    path: Path

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def gold(self) -> list[str]:
        """(n,) true label names."""
        return [row["relation"] for row in self.rows]

    @property
    def predicted(self) -> list[str]:
        """(n,) predicted label names."""
        return [row["predicted"] for row in self.rows]

    @property
    def groups(self) -> list[str]:
        """(n,) the sentence of each pair, as SPLIT/ID; pairs of one sentence are not independent."""
        return [f"{row['split']}/{row['id']}" for row in self.rows]

    @property
    def probabilities(self) -> np.ndarray | None:
        """(n, R) float64, columns in the order of `labels`; None where the file has none."""
        if not all("probabilities" in row for row in self.rows):
            return None
        return np.array([row["probabilities"] for row in self.rows], dtype=np.float64).reshape(-1, len(self.labels))

    @property
    def splits(self) -> list[str]:
        """Names of the splits, in the order in which they first occur."""
        return list(dict.fromkeys(row["split"] for row in self.rows))

    def split(self, name: str) -> "Predictions":
        """The rows of one split.

        Raises:
            ValueError: no row of that split.
        """
        rows = [row for row in self.rows if row["split"] == name]
        if not rows:
            raise ValueError(
                f"{self.path}: expected rows with split {name!r}, received the splits {self.splits}. "
                "Name one of these, or evaluate the run on that split."
            )
        return replace(self, rows=rows)


def read_predictions(
    path: str | Path, labels: Sequence[str] | None = None, none_label: str | None = None
) -> Predictions:
    """Read the predictions of a run, made by run_mmre.py or in its format.

    Args:
        path: the run's folder, or a predictions.jsonl.
        labels: every label name, order = id; taken from the config.json beside the file when not given.
        none_label: the label that means "no relation"; else the config's, or found by its name.

    Raises:
        FileNotFoundError: no such file, or no config.json beside it while `labels` are not given.
        ValueError: a file without rows, a line or a field that is wrong, by file, line and field, or no clear none
            label.

    Example:
        >>> read_predictions("outputs/demo").split("test").gold  # doctest: +SKIP
        ['None', '/per/per/peer', ...]
    """
    path = Path(path)
    if path.is_dir():
        path = path / PREDICTIONS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a {PREDICTIONS_FILE}, received no such file. Pass a finished --output_dir of "
            "run_mmre.py, or the file itself."
        )
    if labels is None:
        labels, configured = _labels_of(path.with_name(CONFIG_FILE))
        none_label = none_label or configured
    labels = list(labels)
    none_label = none_label or find_none_label(labels)
    if none_label not in labels:
        raise ValueError(f"{path}: none_label must be one of the labels {labels}, received {none_label!r}. Name one.")
    rows = _read_rows(path, labels)
    if not rows:
        raise ValueError(f"{path}: expected one line a pair, received no line. {FIX}.")
    return Predictions(rows=rows, labels=labels, none_label=none_label, path=path)


def _labels_of(path: Path) -> tuple[list[str], str | None]:
    """Labels in the order of their ids, and the none label if it is written, of a config.json."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the run's {CONFIG_FILE}, whose id2label names the labels, received no such file. Pass "
            "labels=[...] (--labels on the command line), every label in the order of its id."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        by_id = {int(i): str(name) for i, name in config["id2label"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected JSON with id2label {{id: name}}, received none that can be read ({error!r}). Pass "
            "labels=[...] (--labels on the command line), every label in the order of its id."
        ) from error
    return [by_id[i] for i in sorted(by_id)], config.get("none_label")


def _read_rows(path: Path, labels: list[str]) -> list[dict[str, Any]]:
    """The checked rows of a file; blank lines are skipped."""
    rows, lines = [], {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        row = _parse(line, f"{path}, line {number}")
        _check(row, labels, f"{path}, line {number}")
        key = (row["split"], row["id"], row["pair"])
        if key in lines:
            raise ValueError(
                f"{path}, line {number}: expected each split, id and pair once, received {key}, which line "
                f"{lines[key]} has, too. {FIX}."
            )
        lines[key] = number
        rows.append(row)
    return rows


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        received = f"{line[:60].decode('utf-8', 'replace')!r} ({error})"
        raise ValueError(f"{place}: expected a JSON object, received {received}. {FIX}.") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected a JSON object, received {type(row).__name__}. {FIX}.")
    return row


def _check(row: dict[str, Any], labels: list[str], place: str) -> None:
    """Raise ValueError unless a row has its fields, names known labels and its probabilities are R numbers."""
    for field, kind in REQUIRED.items():
        if field not in row:
            raise ValueError(f"{place}: expected the field {field!r}, received {list(row)}. {FIX}.")
        if not isinstance(row[field], kind) or isinstance(row[field], bool):
            raise ValueError(f"{place}, {field}: expected {kind.__name__}, received {row[field]!r}. {FIX}.")
    for field in ("relation", "predicted"):
        if row[field] not in labels:
            raise ValueError(
                f"{place}, {field}: expected one of the labels {labels}, received {row[field]!r}. Pass the labels "
                "that the run was made with."
            )
    values = row.get("probabilities", [0] * len(labels))
    numbers = isinstance(values, list) and all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in values)
    if not numbers or len(values) != len(labels):
        received = f"{len(values)} values, {str(values)[:60]}" if isinstance(values, list) else repr(values)
        raise ValueError(
            f"{place}, probabilities: expected {len(labels)} numbers from 0 to 1, one a label, received {received}. "
            "Pass the labels that the run was made with, in the order of their ids."
        )
