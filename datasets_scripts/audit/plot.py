"""The one file that draws the audit: bars with intervals, against the majority label and the threshold."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from datasets_scripts.figure_fonts import figure_fonts


__all__ = ["draw_split"]

LEGEND = {"structure": "structure, passed", "content": "content, reported only", "leak": "leak"}
COLOURS = {"structure": "#4c78a8", "content": "#bab0ac", "leak": "#c0392b"}


@figure_fonts()
def draw_split(report: dict[str, Any], split: str, path: Path) -> None:
    """Draw a split of a report: one panel a label, one bar a view, most telling first. A bar is the share of the
    majority label's errors that the view alone removes, with its 95 % interval, whose lower end may not pass the
    dashed line.
    """
    of_split = report["splits"][split]
    panels = {task: [row for row in of_split["views"] if row["task"] == task] for task in of_split["baseline"]}
    figure = Figure(figsize=(17, 1.9 + 0.27 * max(map(len, panels.values()))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report['name']}, {split}: what one field alone tells")
    handles: dict[str, Any] = {}
    for axes, (task, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_task(axes, rows, report["threshold"])
        axes.set_title(f"{task}: the majority label is right in {of_split['baseline'][task]:.1%}")
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, format="png", dpi=110)


def _draw_task(axes: Any, rows: list[dict[str, Any]], threshold: float) -> None:
    rows = sorted(rows, key=lambda row: (row["share"], row["field"]))
    for kind, colour in COLOURS.items():
        of_kind = [i for i, row in enumerate(rows) if ("leak" if row["failed"] else row["kind"]) == kind]
        if of_kind:
            axes.barh(of_kind, [rows[i]["share"] for i in of_kind], color=colour, label=LEGEND[kind])
    for i, row in enumerate(rows):
        low, high = row["share_interval"]
        axes.plot([low, high], [i, i], color="black", linewidth=1)
        axes.text(1.12, i, f"{row['accuracy']:.1%}", va="center", ha="right", fontsize=8)
    axes.axvline(0, color="black", label="majority label")
    axes.axvline(threshold, color="black", linestyle="--", label="threshold, for the interval's lower end")
    axes.set_yticks(range(len(rows)), [f"{row['field']}: {row['aspect']}" for row in rows], fontsize=8)
    lowest = min(row["share_interval"][0] for row in rows)
    axes.set(xlim=(max(-1, min(-0.05, 1.05 * lowest)), 1.14), ylim=(-0.7, len(rows) - 0.3))
    axes.set_xlabel("share of the errors removed (numbers: accuracy)")
