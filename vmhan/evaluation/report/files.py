"""A report as Markdown, CSV, LaTeX (booktabs) and JSON; reported numbers stand apart from measured ones."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from model_cards.tables import Markdown, escape, fence, markdown_table
from vmhan.evaluation.report.reported import ReportedRow, inconsistencies, read_systems
from vmhan.evaluation.report.rows import METRICS, SIGNIFICANCE, Row, statement


__all__ = ["Report", "as_csv", "as_json", "as_latex", "as_markdown"]

DAGGER, NOT_THERE = "†", "–"
HEADER = "row,n,accuracy,precision,recall,F1,95 % interval,difference,p,reads,leaky files".split(",")
COMPARED = ("f1_low", "f1_high", "difference", "difference_low", "difference_high", "p", "p_holm")
COLUMNS = ["kind", "row", "title", "dataset", "split", "n"]
COLUMNS += [f"{metric}{end}" for metric in METRICS for end in ("", "_deviation")]
COLUMNS += [*COMPARED, "leaks", "inputs", "source"]
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {c: f"{{{c}}}" for c in "*["}  # at the start of a row they would belong to the line break before it
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {DAGGER: r"$^\dagger$", NOT_THERE: "--"}
)


@dataclass(frozen=True)
class Report:
    """What the files are made from."""

    dataset: str
    split: str
    rows: list[Row]  # in the order of the table
    reference: str  # the row that has no comparison
    resamples: int
    notes: dict[str, str]  # row -> a remark of the sweep file
    reported: list[ReportedRow]  # rows of the paper, in its order; [] for measured rows alone
    command: str  # that made the report
    only: tuple[str, str] | None = None  # the grouping and the group whose pairs count

    @property
    def full(self) -> Row:
        return next(row for row in self.rows if row.row == self.reference)

    def statements(self) -> list[str]:
        return [statement(row, self.full, self.notes.get(row.row)) for row in self.rows if row is not self.full]

    def explanation(self) -> str:
        pairs, sentences = len(self.full.predictions[0]), len(set(self.full.predictions[0].groups))
        revisions = sorted({revision for row in self.rows for revision in row.revisions}) or ["not recorded"]
        selection = "No epoch was selected: the last one counts."
        if selected := [row.title for row in self.rows if row.selected]:
            same = ", the very split that is scored here, so that the numbers are a little too good"
            some = f" of {', '.join(selected)} alone" * (len(selected) < len(self.rows))
            selection = f"The epoch{some} was selected on validation{same if self.split == 'validation' else ''}."
        only = f" Only pairs of one group: {': '.join(self.only)}." if self.only else ""
        protocol = f" Protocol: {self.full.protocol}." if self.full.protocol else ""
        mixed = [
            f" The seeds of {r.title} differ in more: {'; '.join(r.differing)}." for r in self.rows if r.differing
        ]
        return (
            f"{self.dataset}, {self.split} split: {pairs} pairs of {sentences} sentences.{only} Mean over n seeds "
            "(sample standard deviation), in per cent. Interval of F1: 95 %, sentences resampled "
            f"{self.resamples} times, F1 averaged over the seeds within each resample; it does not cover the choice "
            "of seeds. "
            f"Difference: F1 of the row minus F1 of {self.full.title}. p: paired bootstrap test against "
            f"{self.full.title}, two-sided, Holm-corrected over the {len(self.rows) - 1} other rows; below "
            f"{SIGNIFICANCE} the difference is significant. {selection} Code: {', '.join(revisions)}.{protocol}"
            f"{''.join(mixed)}"
        )


def as_markdown(report: Report) -> str:
    """Table, statements, explanation, and the paper's numbers in a table of their own."""
    title = escape(f"{report.dataset}, {report.split} split")
    lines = [f"# {title}", "", markdown_table(HEADER, _measured_cells(report)), ""]
    lines += [f"- {escape(line)}" for line in report.statements()] + ["", escape(report.explanation()), ""]
    for row in report.rows:
        lines += [f"{escape(row.title)} leaks: {' '.join('; '.join(row.leaks).split())}.", ""] if row.leaks else []
    if report.reported:
        lines += ["## Beside the paper", "", _about_reported(report), "", markdown_table(*_reported_cells(report)), ""]
        lines += [*_reported_notes(report), ""]
    return "\n".join([*lines, fence(report.command, "bash"), ""])


def as_latex(report: Report) -> str:
    r"""A tabular a table; needs \usepackage{booktabs}."""
    parts = [_comment(report.command), _tabular(HEADER, _measured_cells(report)), _comment(report.explanation())]
    if report.reported:
        parts += [_tabular(*_reported_cells(report)), _comment(_about_reported(report))]
    return "\n\n".join(parts) + "\n"


def as_csv(report: Report) -> str:
    """One line a record, with the numbers rounded to six digits."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for record in records(report):
        writer.writerow({name: f"{v:.6f}" if isinstance(v, float) else v for name, v in record.items()})
    return out.getvalue()


def as_json(report: Report) -> dict[str, Any]:
    """Everything, unrounded."""
    about = {name: getattr(report, name) for name in ("dataset", "split", "reference", "resamples", "command")}
    about |= {"statements": report.statements(), "explanation": report.explanation()}
    return {**about, "rows": records(report)}


def records(report: Report) -> list[dict[str, Any]]:
    """A record a row: `kind` is measured (fractions of 1) or reported (the paper's per cent, divided by 100)."""
    found = []
    for row in report.rows:
        found.append({"kind": "measured", "dataset": report.dataset, "split": report.split, "n": len(row.seeds)})
        found[-1] |= {field.name: getattr(row, field.name) for field in fields(row) if field.name != "predictions"}
        found[-1] |= {"leaks": _leaks(row), "leak_reasons": row.leaks}
        for metric in METRICS:
            found[-1] |= {metric: row.mean(metric), f"{metric}_deviation": row.deviation(metric)}
    for row in report.reported:
        system = read_systems()[row.table][row.row]
        found.append({"kind": "reported", "row": system.get("ours"), "title": row.row, "dataset": row.dataset})
        found[-1] |= {metric: value / 100 for metric, value in row.values.items()}
        found[-1] |= {**system, "evidence": system.get("source"), "source": f"the paper, {row.table}, line {row.line}"}
        found[-1]["inconsistencies"] = inconsistencies(row, report.reported)
    return found


def _measured_cells(report: Report) -> list[list[str]]:
    """The cells under HEADER, a row a line."""
    cells = []
    for row in report.rows:
        missing = f" (seed {', '.join(map(str, row.missing))} missing)" if row.missing else ""
        scores = [_mean(row, metric) for metric in METRICS]
        compared = [NOT_THERE] * 2
        if row is not report.full:
            compared = [f"{row.difference * 100 + 0.0:+.2f}", f"{row.p_holm:.4f}"]  # + 0.0: no -0.00
        interval = f"{row.f1_low * 100:.2f} to {row.f1_high * 100:.2f}"
        cells.append([row.title, f"{len(row.seeds)}{missing}", *scores, interval, *compared, row.inputs, _leaks(row)])
    return cells


def _reported_cells(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and cells: for each row of the paper what was measured of it here, then what the paper reports."""
    systems, measured = read_systems(), {row.row: row for row in report.rows}
    datasets = list(dict.fromkeys(row.dataset for row in report.reported))
    found = {(row.table, row.row, row.dataset): row.values for row in report.reported}
    short = {"accuracy": "Acc", "precision": "P", "recall": "R", "f1": "F1"}
    header = ["system", f"F1 measured here, {report.dataset}"]
    header += [f"{data.upper()} {short[m]}{DAGGER}" for data in datasets for m in METRICS]
    cells = []
    for table, name in dict.fromkeys((row.table, row.row) for row in report.reported):
        system = systems[table][name]
        ours = measured.get(system.get("ours"))
        own = _mean(ours, "f1") if ours else "not built" if "ours" not in system or "reason" in system else "not run"
        values = [found.get((table, name, data), {}).get(m) for data in datasets for m in METRICS]
        printed = [NOT_THERE if v is None else Markdown(f"*{v:.2f}*{DAGGER}") for v in values]
        cells.append([name, own, *printed, *(system.get(key, "not stated") for key in ("inputs", "leaks"))])
    return [*header, "reads (MNRE)", "leaky files (MNRE)"], cells


def _about_reported(report: Report) -> str:
    return (
        f"{DAGGER} and italics: reported by the paper, in per cent, not measured here. The order is the paper's, and "
        "these numbers take no part in any comparison above. Only the test splits of MNRE and MORE would compare "
        f"with them; the second column is {report.dataset}, {report.split}."
    )


def _reported_notes(report: Report) -> list[str]:
    """Sources of the leak column, reasons for rows that are not built, and what does not fit in the paper's rows."""
    notes: dict[tuple[str, str], list[str]] = {}
    for row in report.reported:
        system = read_systems()[row.table][row.row]
        if (row.table, row.row) not in notes:
            words = notes[row.table, row.row] = []
            words += [f"leaky files: {system['leaks']} ({system['source']})"] if "leaks" in system else []
            words += [f"not built: {system['reason']}"] if "reason" in system else []
        for text in inconsistencies(row, report.reported):
            notes[row.table, row.row].append(f"computed, {row.dataset.upper()}: {text}")
    return [f"- {name}: {'; '.join(words)}." for (_, name), words in notes.items() if words]


def _mean(row: Row, metric: str) -> str:
    deviation = row.deviation(metric)
    return f"{row.mean(metric) * 100:.2f}" + ("" if deviation is None else f" ({deviation * 100:.2f})")


def _leaks(row: Row) -> str:
    return "not recorded" if row.leaks is None else "yes" if row.leaks else "no"


def _comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def _latex_cell(cell: str) -> str:
    text = " ".join(cell.split()).translate(LATEX)
    if isinstance(cell, Markdown):  # a reported number, in italics
        return re.sub(r"\{\*\}([\d.]+)\{\*\}(\$\S+\$)", r"\\textit{\1\2}", text)
    return text


def _tabular(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(_latex_cell, row)) + r" \\" for row in (header, *cells)]
    begin = f"\\begin{{tabular}}{{l{'r' * (len(header) - 3)}ll}}"
    body = [begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join(body)
