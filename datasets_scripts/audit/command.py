"""Leak audit: how much of the label does each field that is not text give away on its own?

    vmhan audit DATASET_DIR --config NAME --output_dir OUT
    vmhan audit --auxiliary mre_train_dict.pth phrase_text_train.json --annotations mnre_train.txt --output_dir OUT

DATASET_DIR is whatever `datasets.load_dataset` opens and holds posts (datasets_scripts/schema.py). Writes audit.json,
audit.md and one audit_SPLIT.png a split. Exit code: 0 passed, 1 a leak, 2 bad input.

A split fails if a STRUCTURE view (views.py) removes more than `threshold` of the majority label's errors, by the lower
end of the 95 % interval, for none against positive or for the relation; or if an invariant (checks.py) is broken.
Below MIN_GROUPS groups of posts the interval cannot be trusted, and only the invariants are judged.
"""

import argparse
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import sklearn
from sklearn.metrics import f1_score
from tqdm.auto import tqdm

from datasets_scripts.audit.checks import invariants
from datasets_scripts.audit.probe import Resampler, assign_folds, design_of, groups_of, predict_held_out
from datasets_scripts.audit.report import markdown, write_report
from datasets_scripts.audit.table import PairTable, table_of_files, table_of_split
from datasets_scripts.audit.views import views_of
from datasets_scripts.builders.ready import ready_posts
from datasets_scripts.leaks import OFFICIAL, leak_status, protocol_of


__all__ = ["audit_dataset", "audit_files", "audit_table", "main"]

logger = logging.getLogger(__name__)

THRESHOLD = 0.10
MIN_GROUPS = 30  # null fields passed at 25 groups, and failed now and then at 12
NOTABLE = 0.5  # share above which content is worth a look: the best honest systems, text and all, stay below


def audit_dataset(posts: Mapping[str, datasets.Dataset], *, name: str = "data set", **options: Any) -> dict[str, Any]:
    """The report (JSON-able) of every split of a data set of posts, which it calls `name`; `options` of `audit_table`.

    A ValueError says that rows are no posts, an option is out of range, or no split has MIN_GROUPS groups.
    """
    splits = {split: audit_table(table_of_split(rows), **options) for split, rows in posts.items()}
    return _report(name, splits, options, marked=leak_status(posts), protocol=protocol_of(posts))


def audit_files(auxiliary: list[Path], annotations: Path, **options: Any) -> dict[str, Any]:
    """The report of files keyed by the lines of an MNRE text file; options and errors as `audit_table`."""
    table = table_of_files(auxiliary, annotations)
    name = f"{', '.join(path.name for path in auxiliary)} for {annotations.name}"
    return _report(name, {annotations.stem.strip(): audit_table(table, by_line=True, **options)}, options)


def audit_table(
    table: PairTable,
    *,
    threshold: float = THRESHOLD,
    folds: int = 5,
    draws: int = 1000,
    seed: int = 0,
    by_line: bool = False,
) -> dict[str, Any]:
    """The report of one split; `threshold` is the share of the majority label's errors that a view may remove, `draws`
    the bootstrap resamples, `by_line` tells that the table comes from files keyed by line. There is at most one of
    `folds` a group. A ValueError names an option that is out of its range.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: expected a share of the errors in [0, 1), received {threshold}")
    if draws < 100:
        raise ValueError(f"draws: expected at least 100 resamples for a 95 % interval, received {draws}")
    groups = groups_of(table.sentences, table.images)
    num_groups = int(groups.max()) + 1
    rows = []
    if num_groups >= MIN_GROUPS:
        of_folds, resampler = assign_folds(groups, folds, seed), Resampler(groups, draws, seed)
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # half the time on small data
            rows = list(_judged_views(table, of_folds, resampler, threshold, seed))
    checks = [dataclasses.asdict(check) for check in invariants(table, by_line=by_line)]
    checks = [check | {"failed": check["violations"] > 0} for check in checks]
    return {
        "pairs": len(table.relation),
        "groups": num_groups,
        "baseline": {row["task"]: row["baseline"] for row in rows},
        "views": rows,
        "checks": checks,
        "failed": any(row["failed"] for row in [*rows, *checks]),
    }


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = _parse(argv)
    options = {name: getattr(arguments, name) for name in ("threshold", "folds", "draws", "seed")}
    if arguments.auxiliary:
        report = audit_files(arguments.auxiliary, arguments.annotations, **options)
    else:
        name = " ".join(filter(None, [arguments.dataset, arguments.config]))
        posts = ready_posts(datasets.load_dataset(arguments.dataset, arguments.config), name, columns=())
        report = audit_dataset(posts, name=name, **options)
    write_report(report, arguments.output_dir)
    print(markdown(report))
    return int(report["failed"])


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan audit", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", nargs="?", help="a folder or Hub name of posts, for load_dataset")
    parser.add_argument("--config", help="config of the data set")
    parser.add_argument("--auxiliary", nargs="+", type=Path, help="files keyed by line: mre_*_dict.pth, ...")
    parser.add_argument("--annotations", type=Path, help="the MNRE text file that the auxiliary files belong to")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/audit"), help="where the report goes")
    for name, default, words in (
        ("threshold", THRESHOLD, "share of the majority label's errors"),
        ("folds", 5, "folds of the cross-validation"),
        ("draws", 1000, "bootstrap resamples"),
        ("seed", 0, "seed of folds, probes and resamples"),
    ):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=words)
    arguments = parser.parse_args(argv)
    has_files = bool(arguments.auxiliary)
    if has_files != bool(arguments.annotations) or has_files == bool(arguments.dataset):
        parser.error("give either DATASET [--config NAME], or --auxiliary FILE ... with --annotations FILE")
    if arguments.config and not arguments.dataset:
        parser.error("--config goes with DATASET")
    return arguments


def _judged_views(
    table: PairTable, folds: np.ndarray, resampler: Resampler, threshold: float, seed: int
) -> Iterator[dict[str, Any]]:
    """A row for each view and label: what was looked at, what it told, whether it is a leak."""
    tasks = {"none or positive": table.is_positive.astype(np.int64), "relation": table.relation}
    majority = {task: predict_held_out(None, labels, folds, seed) for task, labels in tasks.items()}
    relations = [i for i, name in enumerate(table.labels) if name != table.none_label]
    for view in tqdm(list(views_of(table)), desc="audit", unit="view", leave=False):
        design = design_of(view)
        for task, labels in tasks.items():
            predicted = majority[task] if design is None else predict_held_out(design, labels, folds, seed)
            evidence = resampler.compare(predicted == labels, majority[task] == labels)
            row = {"field": view.field, "aspect": view.aspect, "kind": view.kind, "task": task, **evidence}
            if task == "relation":  # as the field scores systems: micro F1 over the relations
                row["f1"] = float(f1_score(labels, predicted, labels=relations, average="micro", zero_division=0))
            low = evidence["share_interval"][0]
            yield row | {"failed": view.kind == "structure" and low > threshold, "notable": low > NOTABLE}


def _report(
    name: str,
    splits: dict[str, dict[str, Any]],
    options: dict[str, Any],
    marked: Sequence[str] = (),
    protocol: str | None = None,
) -> dict[str, Any]:
    failed = any(split["failed"] for split in splits.values())
    if not failed and not any(split["views"] for split in splits.values()):
        groups = {split: of_split["groups"] for split, of_split in splits.items()}
        raise ValueError(
            f"{name}: expected a split with at least {MIN_GROUPS} groups of posts that share neither sentence nor "
            f"image, received {groups}: too few to tell a leak from chance. Audit the whole data set"
        )
    if failed and not marked and protocol != OFFICIAL:
        logger.warning("%s gives labels away and is not marked leaky (datasets_scripts/leaks.py)", name)
    threshold = options.get("threshold", THRESHOLD)
    marks = {"marked_leaky": list(marked), "protocol": protocol}
    return {"name": name, "threshold": threshold, **marks, "splits": splits, "failed": failed}
