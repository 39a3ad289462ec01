"""Audits of tests: quick ones, and what they found."""

import datasets

from datasets_scripts.audit.command import audit_dataset


QUICK = {"draws": 200, "folds": 2}


def audit(rows, columns=(), **options):
    """The report of a split; `columns` beside the pairs, () for all."""
    rows = rows.select_columns(["tokens", "pairs", *columns]) if columns else rows
    return audit_dataset(datasets.DatasetDict(train=rows), **QUICK, **options)


def leaks(report):
    """{(field, aspect, task)} of all splits that failed, and {(field, rule)} of the broken invariants."""
    views = [row for split in report["splits"].values() for row in split["views"] if row["failed"]]
    checks = [check for split in report["splits"].values() for check in split["checks"] if check["failed"]]
    return {(row["field"], row["aspect"], row["task"]) for row in views}, {(c["field"], c["rule"]) for c in checks}


def row_of(report, field, aspect, task="none or positive"):
    (split,) = report["splits"].values()
    return next(r for r in split["views"] if (r["field"], r["aspect"], r["task"]) == (field, aspect, task))
