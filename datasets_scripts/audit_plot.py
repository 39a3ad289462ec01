"""The one file that draws the audit: bars of accuracy with intervals, against the majority label and the threshold."""

from pathlib import Path
from typing import Any


__all__ = ["draw_split"]

COLOURS = {"structure": "#4c78a8", "content": "#bab0ac", "leak": "#c0392b"}


def draw_split(report: dict[str, Any], split: str, path: Path) -> None:
    """Draw a split of a report: one panel a label, one bar a view, most telling first.

    The bar is the accuracy of the view alone, with its 95 % interval; the line is the majority label's accuracy, and
    the dashed one the accuracy above which the interval's lower end is a leak.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure_class, canvas_class = _matplotlib()
    of_split = report["splits"][split]
    tasks = of_split["baseline"]
    count = max(sum(row["task"] == task for row in of_split["views"]) for task in tasks)
    figure = figure_class(figsize=(15, 1.6 + 0.27 * count), layout="constrained")
    canvas_class(figure)
    figure.suptitle(f"{report['name']}, {split}: what one field alone tells")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _draw_task(axes, [row for row in of_split["views"] if row["task"] == task], task, report["threshold"])
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, format="png", dpi=110)


def _draw_task(axes: Any, rows: list[dict[str, Any]], task: str, threshold: float) -> None:
    rows = sorted(rows, key=lambda row: (row["accuracy"], row["field"]))
    baseline = rows[0]["baseline"]
    for kind, colour in COLOURS.items():
        of_kind = [i for i, row in enumerate(rows) if ("leak" if row["failed"] else row["kind"]) == kind]
        label = {"structure": "structure, passed", "content": "content, reported only", "leak": "leak"}[kind]
        axes.barh(of_kind, [rows[i]["accuracy"] for i in of_kind], color=colour, label=label)
    lows = [-row["gain_interval"][0] + row["gain"] for row in rows]
    highs = [row["gain_interval"][1] - row["gain"] for row in rows]
    whiskers = [[max(0.0, low) for low in lows], [max(0.0, high) for high in highs]]
    axes.errorbar(
        [row["accuracy"] for row in rows], range(len(rows)), xerr=whiskers, fmt="none", ecolor="black", capsize=2
    )
    axes.axvline(baseline, color="black", label="majority label")
    limit = baseline + threshold * (1 - baseline)
    axes.axvline(limit, color="black", linestyle="--", label="threshold for the interval's lower end")
    axes.set_yticks(range(len(rows)), [f"{row['field']}: {row['aspect']}" for row in rows], fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(-0.7, len(rows) - 0.3), title=task, xlabel="accuracy on held-out posts")


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the audit's picture needs matplotlib: pip install 'vmhan[report]'") from error
    return Figure, FigureCanvasAgg
