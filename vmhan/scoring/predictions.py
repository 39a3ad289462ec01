"""The predictions.jsonl of a run, read and checked once: what every score, report and picture is made from.

One row a pair; n pairs, R labels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from modeling_vmhan.labels import find_none_label


__all__ = ["UNCERTAINTIES", "Predictions", "check_same_pairs", "pair_key", "read_predictions"]

REQUIRED = {"split": str, "id": str, "pair": int, "relation": str, "predicted": str}

# Of a model with variances: entropy of the mean over Monte Carlo samples and mutual information (nats, see
# `modeling_vmhan.uncertainty`), and the sum of the variances that the classifier reads.
UNCERTAINTIES = ("monte_carlo_entropy", "mutual_information", "summed_variance")


@dataclass(frozen=True)
class Predictions:
    """Rows of a predictions.jsonl, in the file's order: dicts with at least the fields of REQUIRED.

    id is the post's, that is the sentence's, pair the number in the post, relation the gold name.
    """

    rows: list[dict[str, Any]]
    labels: list[str]  # every label name, the none label included; order = id
    none_label: str  # the label that means "no relation"
    path: Path  # of the file

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
        """The rows of one split; ValueError if there is none."""
        rows = [row for row in self.rows if row["split"] == name]
        if not rows:
            raise ValueError(f"{self.path}: expected rows with split {name!r}, received the splits {self.splits}.")
        return replace(self, rows=rows)


def pair_key(row: dict[str, Any]) -> tuple[str, str, int]:
    """What identifies a pair: split, id of the post, number in the post."""
    return row["split"], row["id"], row["pair"]


def check_same_pairs(first: Predictions, second: Predictions) -> None:
    """Raise ValueError unless both have the same pairs in the same order, none label, gold labels and, where both
    files have them, words of the mentions.
    """
    both = f"{first.path} and {second.path}"
    if first.none_label != second.none_label:
        raise ValueError(f"{both}: expected one none label, received {first.none_label!r} and {second.none_label!r}.")
    for one, other in zip_longest(first.rows, second.rows):
        keys = ["the end" if row is None else pair_key(row) for row in (one, other)]
        if keys[0] != keys[1]:
            raise ValueError(
                f"{both}: expected the same pairs, received (split, id, pair) {keys[0]} and {keys[1]} as the first "
                "difference. Compare runs on the same split of the same data set, whole."
            )
        for field, what in (("relation", "gold labels"), ("head", "heads"), ("tail", "tails")):
            if field in one and field in other and one[field] != other[field]:
                raise ValueError(
                    f"{both}: expected the same {what}, received {one[field]!r} and {other[field]!r} for "
                    f"(split, id, pair) {keys[0]}. Compare runs on the same version of the data set."
                )


def read_predictions(
    path: str | Path, labels: Sequence[str] | None = None, none_label: str | None = None
) -> Predictions:
    """Read a run's folder or predictions.jsonl; labels (in the order of their ids) and none_label, where not given,
    are those of the config.json beside it. FileNotFoundError without the file or labels; ValueError for no row, a
    wrong field or no clear none label.
    """
    path = Path(path)
    path = path / "predictions.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file. Pass a finished --output_dir, or its file.")
    configured = None
    if labels is None:
        labels, configured = _labels_of(path.with_name("config.json"))
    none_label = none_label or configured or find_none_label(labels)
    if none_label not in labels:
        raise ValueError(f"{path}: none_label must be one of the labels {list(labels)}, received {none_label!r}.")
    rows, lines = [], {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            rows.append(_read_row(line, labels, place := f"{path}, line {number}"))
            if (earlier := lines.setdefault(pair_key(rows[-1]), number)) != number:
                raise ValueError(f"{place}: expected each split, id and pair once, line {earlier} has it, too.")
    if not rows:
        raise ValueError(f"{path}: expected one line a pair, received no line.")
    return Predictions(rows=rows, labels=list(labels), none_label=none_label, path=path)


def _labels_of(path: Path) -> tuple[list[str], str | None]:
    """Labels in the order of their ids, and the none label if it is written, of a config.json."""
    hint = "Name the labels by labels=, or --labels."
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        by_id = {int(i): str(name) for i, name in config["id2label"].items()}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file. {hint}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected JSON with id2label {{id: name}} ({error!r}). {hint}") from error
    return [by_id[i] for i in sorted(by_id)], config.get("none_label")


def _read_row(line: bytes, labels: Sequence[str], place: str) -> dict[str, Any]:
    """A row that has its fields, names known labels and has R probabilities or none."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: expected a JSON object, received {line[:60]!r} ({error}).") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected a JSON object, received {type(row).__name__}.")
    for field, kind in REQUIRED.items():
        if not isinstance(row.get(field), kind) or isinstance(row[field], bool):
            raise ValueError(f"{place}, {field}: expected {kind.__name__}, received {row.get(field)!r}.")
    for field in ("relation", "predicted"):
        if row[field] not in labels:
            raise ValueError(f"{place}, {field}: expected one of the labels {list(labels)}, received {row[field]!r}.")
    for field in UNCERTAINTIES:
        if not isinstance(value := row.get(field, 0.0), (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"{place}, {field}: expected a number of at least 0, received {value!r}.")
    values = row.get("probabilities", [0] * len(labels))
    numbers = isinstance(values, list) and all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in values)
    if not numbers or len(values) != len(labels):
        raise ValueError(
            f"{place}, probabilities: expected {len(labels)} numbers from 0 to 1, one a label in the order of the "
            f"ids, received {str(values)[:60]}."
        )
    return row
