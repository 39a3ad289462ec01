"""The pictures of the figures: the data of `vmhan.evaluation.figures.data` as PNG and SVG."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmhan.scoring.pictures import BLUE, ORANGE, picture


__all__ = ["draw_figure"]

COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # with more rows the markers go on
MARKERS = ("o", "s", "D", "^", "v", "P")
DETECTION = {
    "detection": ("is there a relation?", "F1, precision (P), recall (R) (%)"),
    "typing": ("which one, where one was correctly found?", "accuracy (%)"),
}
MOST_PANELS = 4  # in a line
SHARES = {"evaluated": "taken away at evaluation", "trained": "taken away in training and evaluation"}


def draw_figure(data: dict[str, Any], stem: Path, subtitle: str) -> Sequence[Path]:
    """Draw a figure of `vmhan.evaluation.figures.data`, its panels side by side, into STEM.png and STEM.svg, which it
    returns; subtitle says what was scored. ImportError if matplotlib is not installed.
    """
    draw, width, height = DRAWERS[data["figure"]]
    names = _row_names(data)
    looks = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i // len(COLOURS) % len(MARKERS)]}
        for i, name in enumerate(names)
    }
    sizes = [width(panel) for panel in data["panels"]]
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    lines = -(-len(sizes) // MOST_PANELS)  # of panels; only those of one width are more than MOST_PANELS
    sizes = sizes[:MOST_PANELS]
    with picture(*paths, width=max(5.0, sum(sizes)), height=lines * height(len(names)), dpi=150) as figure:
        figure.suptitle(f"{data['figure'].capitalize()}: {data['title']}\n{subtitle}")
        shared = draw in (_draw_groups, _draw_shares, _draw_risks)  # all panels are of one measure
        places = figure.subplots(lines, len(sizes), width_ratios=sizes, squeeze=False, sharey=shared).flat
        for axes, panel in zip(places, data["panels"]):
            draw(axes, panel, looks)
            if shared:
                axes.label_outer()
            axes.spines[["top", "right"]].set_visible(False)
        for axes in places:
            axes.set_visible(False)
        if draw is not _draw_risks:  # whose panels have one each
            _draw_legend(figure, aside=draw in (_draw_times, _draw_reliability))
    return paths


def _draw_legend(figure: Any, *, aside: bool) -> None:
    """One for all panels: below, in as many columns as fit, or to the right."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    if handles:
        fit = max(1, int(figure.get_figwidth() / (0.5 + 0.085 * max(map(len, handles)))))
        place = {"loc": "outside right center"} if aside else {"loc": "outside lower center", "ncols": fit}
        figure.legend(handles.values(), handles, frameon=False, **place)


def _row_names(data: dict[str, Any]) -> list[str]:
    holders = [holder for panel in data["panels"] for holder in [panel, *panel.get("groups", [])]]
    found = [name for holder in holders for key in ("rows", "lines", "points") for name in holder.get(key, {})]
    return list(dict.fromkeys(found))


def _percent(scores: dict[str, Any]) -> tuple[float, list[list[float]]]:
    """F1 (or accuracy) in per cent and, as matplotlib takes them, the distances down and up to the interval's ends."""
    f1 = 100 * scores.get("f1", scores.get("accuracy"))
    return f1, [[max(0.0, f1 - 100 * scores["low"])], [max(0.0, 100 * scores["high"] - f1)]]


def _draw_groups(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """One column a group, in it one point a row with its interval; below its name how many pairs it has."""
    groups = panel["groups"]
    step = 0.8 / max(len(looks), 1)
    for place, (name, look) in enumerate(looks.items()):
        for column, group in enumerate(groups):
            f1, error = _percent(group["rows"][name])
            x = column + (place - (len(looks) - 1) / 2) * step
            label = name if column == 0 else None
            axes.errorbar(x, f1, error, linestyle="", capsize=2, markersize=5, label=label, **look)
    for column in range(1, len(groups)):
        axes.axvline(column - 0.5, color="0.85", linewidth=0.8)
    names = [f"{group['group']}\n{group['pairs']:,} pairs\n{group['positive']:,} positive" for group in groups]
    axes.set_xticks(range(len(groups)), names)
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylabel="micro F1 (%)")
    axes.set_xlabel(textwrap.fill(panel["x"], int(13 * _grouped_width(panel))))
    axes.grid(axis="y", color="0.9")


def _draw_shares(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    for name, points in panel["lines"].items():
        shares, f1, low, high = ([100 * point[key] for point in points] for key in ("share", "f1", "low", "high"))
        axes.plot(shares, f1, label=name, markersize=5, **looks[name])
        axes.fill_between(shares, low, high, color=looks[name]["color"], alpha=0.15, linewidth=0)
    axes.set_title(SHARES[panel["name"]])
    axes.set(xlim=(-3, 103), xlabel="visual nodes kept (%)", ylabel="micro F1 (%)")
    axes.grid(color="0.9")


def _draw_times(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """One point a row; the legend names it, since labels beside points would overlap."""
    key, least = ("relative", 1.0) if panel["reference"] else ("seconds", 0.0)
    for name, point in panel["points"].items():
        f1, error = _percent(point)
        axes.errorbar(point[key], f1, error, linestyle="", capsize=2, markersize=6, label=name, **looks[name])
    if panel["reference"]:
        axes.axvline(1, color="0.5", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.1 * max([least, *(p[key] for p in panel["points"].values())]))
    axes.set(xlabel=panel["x"], ylabel="micro F1 (%)")
    axes.grid(color="0.9")


def _draw_detection(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """One line a row, the first one on top."""
    rows = panel["rows"]
    for place, scores in enumerate(rows.values()):
        f1, error = _percent(scores)
        axes.errorbar(f1, place, xerr=error, linestyle="", capsize=2, markersize=6, color="black", marker="o")
        for letter, key, colour in (("$P$", "precision", BLUE), ("$R$", "recall", ORANGE)):
            if key in scores:
                axes.plot(100 * scores[key], place, marker=letter, markersize=8, linewidth=0, color=colour)
    title, label = DETECTION[panel["name"]]
    axes.set_title(title)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label)
    axes.grid(axis="x", color="0.9")


def _draw_reliability(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """Bins of fewer pairs have smaller points."""
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
    for name, row in panel["rows"].items():
        keys = ("confidence", "accuracy", "pairs")
        confidence, accuracy, pairs = ([found[key] for found in row["bins"]] for key in keys)
        axes.plot(confidence, accuracy, color=looks[name]["color"], linewidth=1)
        sizes = [8 + 150 * count / sum(pairs) for count in pairs]
        label = f"{name}, ECE {row['ece']:.3f}"
        axes.scatter(confidence, accuracy, s=sizes, label=label, alpha=0.8, **looks[name])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.grid(color="0.9")


def _draw_risks(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """The lowest curve is the best uncertainty; only the first one has its interval, since they overlap."""
    for number, (name, points) in enumerate(panel["lines"].items()):
        shares, risks, low, high = (
            [100 * point[key] for point in points] for key in ("coverage", "risk", "low", "high")
        )
        score, colour = panel["scores"][name], looks[name]["color"]
        auroc = "-" if score["auroc"] is None else f"{score['auroc']['value']:.3f}"
        label = f"{name.replace('_', ' ')}: AURC {score['aurc']['value']:.3f}, AUROC {auroc}"
        axes.plot(shares, risks, label=label, markersize=3, linewidth=1, **looks[name])
        if number == 0:
            axes.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.legend(loc="lower right", frameon=False, fontsize=7)
    axes.set_title(panel["name"])
    axes.set(xlim=(0, 103), xlabel="pairs answered, the surest first (%)", ylabel="wrong among them (%)")
    axes.set_ylim(bottom=0)
    axes.grid(color="0.9")


def _grouped_width(panel: dict[str, Any]) -> float:
    """Inches."""
    rows = len(panel["groups"][0]["rows"])
    return max(2.8, 0.9 + len(panel["groups"]) * max(1.0, 0.2 * rows))


# figure: (draws a panel, inches a panel is wide, inches the figure is high by the number of rows)
DRAWERS = {
    **dict.fromkeys(("Figure 3", "Figure 4", "spans"), (_draw_groups, _grouped_width, lambda rows: 4.2)),
    "Figure 5": (_draw_shares, lambda panel: 4.5, lambda rows: 4.2),
    "Figure 6": (_draw_times, lambda panel: 7.0, lambda rows: max(4.2, 1 + 0.21 * rows)),
    "detection": (_draw_detection, lambda panel: 4.6, lambda rows: 1.6 + 0.42 * rows),
    "calibration": (_draw_reliability, lambda panel: 7.0, lambda rows: max(5.0, 1 + 0.21 * rows)),
    "error detection": (_draw_risks, lambda panel: 4.2, lambda rows: 4.2),
}
