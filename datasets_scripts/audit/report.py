"""The audit's report as files: JSON with everything, Markdown to read, one picture a split."""

from pathlib import Path
from typing import Any

from model_cards.files import write_json
from model_cards.tables import Markdown, escape, markdown_table


__all__ = ["markdown", "write_report"]

VIEW = ("field", "looked at", "kind", "accuracy", "share", "interval", "F1", "")


def markdown(report: dict[str, Any]) -> str:
    """The report as a page: the verdict, then the views of each split, most telling first."""
    verdict = "FAILED: labels are given away" if report["failed"] else "passed"
    lines = [f"# Leak audit of {escape(report['name'])}", "", f"**{verdict}** (threshold {report['threshold']:g})", ""]
    lines += [f"Marked leaky: {' '.join(reason.split())}" for reason in report["marked_leaky"]]
    lines += [f"Protocol: {report['protocol']}", ""] if report["protocol"] else []
    lines += [
        "Each figure is of one field alone, on held-out posts. *Share* is how much of the majority label's errors the "
        "field removes, with the 95 % interval over posts; F1 is the official one. *Look at it*: content that tells "
        "more than honest systems do; make sure that it comes from the image.",
    ]
    for name, split in report["splits"].items():
        lines += ["", f"## {escape(name)}: {split['pairs']} pairs, {split['groups']} groups of posts", ""]
        lines += _views(split) if split["views"] else ["Too few groups to judge the fields by; only invariants are."]
        rows = []
        for check in split["checks"]:
            broken = Markdown(f"**{check['violations']}**") if check["failed"] else "0"
            rows.append([check["rule"], check["field"], str(check["compared"]), broken, check["example"] or ""])
        lines += ["", markdown_table(["invariant", "field", "compared", "broken", "example"], rows)]
    return "\n".join(lines) + "\n"


def write_report(report: dict[str, Any], folder: str | Path) -> None:
    """Write audit.json, audit.md and audit_SPLIT.png into `folder`; ImportError without matplotlib."""
    try:
        from datasets_scripts.audit.plot import draw_split
    except ImportError as error:
        raise ImportError("the audit's picture needs matplotlib: pip install 'vmhan[report]'") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split in (name for name, of_split in report["splits"].items() if of_split["views"]):
        draw_split(report, split, folder / f"audit_{split.replace(' ', '_')}.png")
    write_json(folder / "audit.json", report)
    (folder / "audit.md").write_text(markdown(report), encoding="utf-8")


def _views(split: dict[str, Any]) -> list[str]:
    lines = []
    for task, baseline in split["baseline"].items():
        rows = sorted((row for row in split["views"] if row["task"] == task), key=lambda row: -row["share"])
        lines += [f"### {escape(task)}: the majority label is right in {baseline:.1%}", ""]
        cells = []
        for row in rows:
            low, high = row["share_interval"]
            numbers = [f"{row['accuracy']:.1%}", f"{row['share']:.1%}", f"{low:.1%} to {high:.1%}"]
            numbers.append(f"{row['f1']:.1%}" if "f1" in row else "")
            remark = Markdown("**LEAK**") if row["failed"] else "look at it" if row["notable"] else ""
            cells.append([row["field"], row["aspect"], row["kind"], *numbers, remark])
        lines += [markdown_table(VIEW, cells), ""]
    return lines[:-1]
