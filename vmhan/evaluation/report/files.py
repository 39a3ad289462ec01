"""A report as Markdown, CSV, LaTeX (booktabs) and JSON; reported numbers stand apart from measured ones."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from model_cards.tables import markdown_table
from vmhan.evaluation.report.reported import METRICS as REPORTED_METRICS
from vmhan.evaluation.report.reported import ReportedRow, inconsistencies, read_systems
from vmhan.evaluation.report.rows import METRICS, SIGNIFICANCE, Measured, statement


__all__ = ["Report", "as_csv", "as_json", "as_latex", "as_markdown"]

DAGGER = "†"
NOT_THERE = "–"


@dataclass(frozen=True)
class Report:
    """What the files are made from.

    Attributes:
        rows: in the order of the table; the one named `reference` has no comparison.
        notes: row -> a remark of the sweep file.
        reported: rows of the paper, in its order; [] for a report of measured rows alone.
        command: that made the report.
    """

    dataset: str
    split: str
    rows: list[Measured]
    reference: str
    resamples: int
    notes: dict[str, str]
    reported: list[ReportedRow]
    command: str

    @property
    def full(self) -> Measured:
        return next(row for row in self.rows if row.name == self.reference)

    def statements(self) -> list[str]:
        return [statement(row, self.full, self.notes.get(row.name)) for row in self.rows if row.comparison]

    def explanation(self) -> str:
        pairs, sentences = len(self.full.predictions[0]), len(set(self.full.predictions[0].groups))
        revisions = sorted({revision for row in self.rows for revision in row.revisions}) or ["not recorded"]
        return (
            f"{self.dataset}, {self.split} split: {pairs} pairs of {sentences} sentences. Mean over n seeds (sample "
            f"standard deviation), in per cent. Interval of F1: 95 %, sentences resampled {self.resamples} times, F1 "
            "averaged over the seeds within each resample; it does not cover the choice of seeds. "
            f"Difference: F1 of the row minus F1 of {self.full.title}. p: paired bootstrap test against "
            f"{self.full.title}, two-sided, Holm-corrected over the {len(self.rows) - 1} other rows; below "
            f"{SIGNIFICANCE} it counts as a difference. {self._selection()} Code: {', '.join(revisions)}."
        )

    def _selection(self) -> str:
        if not any(row.selected for row in self.rows):
            return "No epoch was selected: the last one counts."
        same = ", the very split that is scored here, so that the numbers are a little too good"
        return f"The epoch was selected on validation{same if self.split == 'validation' else ''}."


def as_markdown(report: Report) -> str:
    """Table, statements, explanation, and the paper's numbers in a table of their own."""
    lines = [f"# {report.dataset}, {report.split} split", "", markdown_table(*_measured_cells(report)), ""]
    lines += [f"- {line}" for line in report.statements()] + ["", report.explanation(), ""]
    for row in report.rows:
        lines += [f"{row.title} leaks: {'; '.join(row.leaks)}.", ""] if row.leaks else []
    if report.reported:
        header, cells = _reported_cells(report, italic="*")
        lines += ["## Beside the paper", "", _reported_words(report), "", markdown_table(header, cells), ""]
        lines += _reported_notes(report)
    return "\n".join([*lines, "```bash", report.command, "```", ""])


def as_latex(report: Report) -> str:
    r"""A tabular a table; needs \usepackage{booktabs}."""
    header, cells = _measured_cells(report)
    parts = [f"% {report.command}", _tabular(header, cells), f"% {report.explanation()}"]
    if report.reported:
        header, cells = _reported_cells(report, italic="")
        start = 2  # the first two columns are ours
        cells = [
            [*row[:start], *(f"ITALIC{cell}" if DAGGER in cell else cell for cell in row[start:])] for row in cells
        ]
        parts += [_tabular(header, cells), f"% {_reported_words(report)}"]
    return "\n\n".join(parts) + "\n"


def as_csv(report: Report) -> str:
    """One line a row, `kind` being measured (fractions of 1) or reported (the paper's per cent, divided by 100)."""
    numbers = [name for metric in METRICS for name in (metric, f"{metric}_deviation")]
    compared = ["f1_low", "f1_high", "difference", "difference_low", "difference_high", "p", "p_holm"]
    about = ["leaks", "inputs", "source"]
    out = io.StringIO()
    columns = ["kind", "row", "title", "dataset", "split", "n", *numbers, *compared, *about]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        entry = {"kind": "measured", "row": row.name, "title": row.title, "dataset": report.dataset}
        entry |= {"split": report.split, "n": len(row.seeds), "leaks": _leaks(row), "inputs": row.inputs}
        entry |= {metric: _number(row.mean(metric)) for metric in METRICS}
        entry |= {f"{metric}_deviation": _number(row.deviation(metric)) for metric in METRICS}
        entry |= {"f1_low": _number(row.interval.low), "f1_high": _number(row.interval.high)}
        if (test := row.comparison) is not None:  # signs as in the table: this row minus the reference
            values = (-test.difference, -test.high, -test.low, test.p_value, row.adjusted_p)
            entry |= dict(zip(compared[2:], map(_number, values), strict=True))
        writer.writerow(entry)
    systems = read_systems()
    for row in report.reported:
        system = systems[row.table][row.row]
        entry = {"kind": "reported", "row": system.get("ours", ""), "title": row.row, "dataset": row.dataset}
        entry |= {metric: _number(value / 100) for metric, value in row.values.items() if metric in METRICS}
        entry |= {name: system.get(name, "") for name in ("leaks", "inputs")}
        writer.writerow({**entry, "source": f"the paper, {row.table}, line {row.line}"})
    return out.getvalue()


def as_json(report: Report) -> dict[str, Any]:
    """Everything, unrounded."""
    systems = read_systems()
    measured = []
    for row in report.rows:
        entry = {
            name: value for name, value in vars(row).items() if name not in ("predictions", "comparison", "interval")
        }
        entry |= {"mean": {m: row.mean(m) for m in METRICS}, "deviation": {m: row.deviation(m) for m in METRICS}}
        entry["f1_interval"] = row.interval._asdict()
        entry["reference_minus_row"] = row.comparison and row.comparison._asdict()
        measured.append(entry)
    reported = [
        {**asdict(row), **systems[row.table][row.row], "inconsistencies": inconsistencies(row, report.reported)}
        for row in report.reported
    ]
    about = {name: getattr(report, name) for name in ("dataset", "split", "reference", "resamples", "command")}
    about |= {"statements": report.statements(), "explanation": report.explanation()}
    return {**about, "measured": measured, "reported": reported}


def _measured_cells(report: Report) -> tuple[list[str], list[list[str]]]:
    header = [
        "row",
        "n",
        "accuracy",
        "precision",
        "recall",
        "F1",
        "95 % interval",
        "difference",
        "p",
        "reads",
        "leaks",
    ]
    cells = []
    for row in report.rows:
        test = row.comparison
        compared = (
            [f"{-test.difference * 100 + 0.0:+.2f}", f"{row.adjusted_p:.4f}"] if test else [NOT_THERE, NOT_THERE]
        )
        missing = f" (seed {', '.join(map(str, row.missing))} missing)" if row.missing else ""
        interval = f"{row.interval.low * 100:.2f} to {row.interval.high * 100:.2f}"
        scores = [_mean(row, metric) for metric in METRICS]
        cells.append([row.title, f"{len(row.seeds)}{missing}", *scores, interval, *compared, row.inputs, _leaks(row)])
    return header, cells


def _reported_cells(report: Report, italic: str) -> tuple[list[str], list[list[str]]]:
    """A row of the paper a line, in the paper's order: what was measured of it here, then what the paper reports."""
    systems, measured = read_systems(), {row.name: row for row in report.rows}
    by_name: dict[tuple[str, str], dict[str, ReportedRow]] = {}
    for row in report.reported:
        by_name.setdefault((row.table, row.row), {})[row.dataset] = row
    datasets = list(dict.fromkeys(row.dataset for row in report.reported))
    short = {"accuracy": "Acc", "precision": "P", "recall": "R", "f1": "F1"}
    header = ["system", f"F1 measured here, {report.dataset}"]
    header += [f"{data.upper()} {short[m]}{DAGGER}" for data in datasets for m in REPORTED_METRICS]
    header += ["reads (MNRE)", "leaks (MNRE)"]
    cells = []
    for (table, name), rows in by_name.items():
        system = systems[table][name]
        ours = measured.get(system.get("ours"))
        own = _mean(ours, "f1") if ours else "not built" if "ours" not in system or "reason" in system else "not run"
        values = [rows[data].values.get(m) if data in rows else None for data in datasets for m in REPORTED_METRICS]
        printed = [NOT_THERE if v is None else f"{italic}{v:.2f}{italic}{DAGGER}" for v in values]
        cells.append([name, own, *printed, system.get("inputs", "not stated"), system.get("leaks", "not stated")])
    return header, cells


def _reported_words(report: Report) -> str:
    return (
        f"{DAGGER} and italics: reported by the paper, in per cent, not measured here. The order is the paper's, and "
        "these numbers take no part in any comparison above. Only the test splits of MNRE and MORE would compare "
        f"with them; the second column is {report.dataset}, {report.split}."
    )


def _reported_notes(report: Report) -> list[str]:
    """Sources of the leak column, reasons for rows that are not built, and what does not fit in the paper's rows."""
    systems, lines = read_systems(), []
    for table, name in dict.fromkeys((row.table, row.row) for row in report.reported):
        system = systems[table][name]
        words = [f"leaks: {system['leaks']} ({system['source']})"] if "leaks" in system else []
        words += [f"not built: {system['reason']}"] if "reason" in system else []
        for row in report.reported:
            if (row.table, row.row) == (table, name):
                words += [f"computed, {row.dataset.upper()}: {text}" for text in inconsistencies(row, report.reported)]
        lines += [f"- {name}: {'; '.join(words)}."] if words else []
    return [*lines, ""]


def _mean(row: Measured, metric: str) -> str:
    deviation = row.deviation(metric)
    return f"{row.mean(metric) * 100:.2f}" + ("" if deviation is None else f" ({deviation * 100:.2f})")


def _leaks(row: Measured) -> str:
    return "not recorded" if row.leaks is None else "yes" if row.leaks else "no"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _tabular(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in (header, *cells)]
    columns = "l" + "r" * (len(header) - 3) + "ll"
    begin, end = f"\\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", end])


def _latex(cell: str) -> str:
    special = {"\\": r"\textbackslash{}", **{c: f"\\{c}" for c in "&%$#_{}"}, "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", DAGGER: r"$^\dagger$", NOT_THERE: "--"}
    italic = cell.startswith("ITALIC")
    text = "".join(special.get(character, character) for character in cell.removeprefix("ITALIC"))
    return rf"\textit{{{text}}}" if italic else text
