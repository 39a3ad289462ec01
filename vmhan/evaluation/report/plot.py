"""The picture of a report: a dot a row, its F1 with the interval, and the seeds."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from vmhan.evaluation.report.rows import SIGNIFICANCE, Measured


__all__ = ["draw_rows"]

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.55"
TITLE_WIDTH = 34  # letters of a line: the axes need room beside the titles


def draw_rows(path: str | Path, rows: Sequence[Measured], *, reference: str, title: str) -> None:
    """Rows from top to bottom as given; PNG, written atomically.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ImportError("the picture of a report needs matplotlib: pip install 'vmhan[report]'") from error
    names = [_wrapped(row) for row in rows]
    lines = max(2, *(name.count("\n") + 1 for name in names))
    figure = Figure(figsize=(7.5, 1.7 + 0.17 * lines * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, is_reference=row.name == reference)
    full = next(row for row in rows if row.name == reference)
    axes.axvline(full.interval.value * 100, color=BLUE, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("micro F1 (%)\nbar: 95 % interval over sentences; crosses: seeds")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend(axes, full.title, has_comparisons=len(rows) > 1)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=130)
    os.replace(temporary, path)


def _wrapped(row: Measured) -> str:
    """The row's title in lines; the number of seeds is not broken, as its spaces are no-break ones."""
    return textwrap.fill(f"{row.title} (n\u00a0=\u00a0{len(row.seeds)})", TITLE_WIDTH)


def _draw_row(axes, place: int, row: Measured, *, is_reference: bool) -> None:
    told_apart = row.adjusted_p is not None and row.adjusted_p < SIGNIFICANCE
    colour = BLUE if is_reference else ORANGE if told_apart else GREY
    value, low, high = (end * 100 for end in row.interval)
    axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot([value], [place], marker="o", markersize=7, color=colour)
    seeds = [score * 100 for score in row.scores["f1"]]
    axes.plot(seeds, [place + 0.24] * len(seeds), linestyle="", marker="x", markersize=4, color="0.25")


def _legend(axes, reference: str, *, has_comparisons: bool) -> None:
    entries = [(BLUE, reference)]
    if has_comparisons:
        entries += [(ORANGE, "told apart from it (Holm-corrected)"), (GREY, "not told apart")]
    handles = [axes.plot([], [], marker="o", linewidth=2, color=colour, label=label)[0] for colour, label in entries]
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
