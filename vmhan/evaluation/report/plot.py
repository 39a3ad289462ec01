"""The picture of a report: a dot a row, its F1 with the interval, and the seeds."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from vmhan.evaluation.report.rows import Row
from vmhan.scoring.pictures import BLUE, GREY, ORANGE, picture


__all__ = ["draw_rows"]

TITLE_WIDTH = 34  # letters of a line: the axes need room beside the titles


def draw_rows(path: str | Path, rows: Sequence[Row], *, reference: str, title: str) -> None:
    """Rows from top to bottom as given, as a PNG; ImportError if matplotlib is not installed."""
    # the number of seeds is not broken from its sign, as its spaces are no-break ones
    names = [textwrap.fill(f"{row.title} (n\u00a0=\u00a0{len(row.seeds)})", TITLE_WIDTH) for row in rows]
    lines = max(2, *(name.count("\n") + 1 for name in names))
    with picture(path, width=7.5, height=1.7 + 0.17 * lines * len(rows)) as figure:
        axes = figure.subplots()
        full = next(row for row in rows if row.row == reference)
        for place, row in enumerate(rows):
            colour = BLUE if row is full else ORANGE if row.is_significant else GREY
            axes.plot([100 * row.f1_low, 100 * row.f1_high], [place, place], color=colour, linewidth=2)
            axes.plot([100 * row.mean("f1")], [place], marker="o", markersize=7, color=colour)
            seeds = [100 * score for score in row.scores["f1"]]
            axes.plot(seeds, [place + 0.24] * len(seeds), linestyle="", marker="x", markersize=4, color="0.25")
        axes.axvline(100 * full.mean("f1"), color=BLUE, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("micro F1 (%)\nbar: 95 % interval over sentences; crosses: seeds")
        axes.set_title(title)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        entries = {full.title: BLUE, "significantly different (Holm-corrected)": ORANGE}
        entries["not significantly different"] = GREY
        for label, colour in list(entries.items())[: None if len(rows) > 1 else 1]:
            axes.plot([], [], marker="o", linewidth=2, color=colour, label=label)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
