"""The picture of a report: a dot a row, its F1 with the interval, and the seeds."""

import os
from collections.abc import Sequence
from pathlib import Path

from evaluation.report_rows import SIGNIFICANCE, Measured


__all__ = ["draw_rows"]

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.55"


def draw_rows(path: str | Path, rows: Sequence[Measured], *, reference: str, title: str) -> None:
    """Rows from top to bottom as given; PNG, written atomically.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ImportError("the picture of a report needs matplotlib: pip install 'vmhan[report]'") from error
    figure = Figure(figsize=(7.5, 1.6 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, is_reference=row.name == reference)
    full = next(row for row in rows if row.name == reference)
    axes.axvline(full.interval.value * 100, color=BLUE, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [f"{row.title} (n = {len(row.seeds)})" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("micro F1 (%); bar: 95 % interval over sentences; crosses: seeds")
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
