"""The one file that draws the figures: the data of `vmhan.evaluation.figures.data` as PNG and SVG."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any


__all__ = ["DRAWERS", "draw_figure"]

# Okabe and Ito, which stay apart for colour-blind eyes; with more rows than colours the markers go on.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P")


def draw_figure(data: dict[str, Any], stem: Path, subtitle: str) -> list[Path]:
    """Draw every panel of a figure side by side into STEM.png and STEM.svg, replacing old ones whole.

    Args:
        data: of `vmhan.evaluation.figures.data`, with at least one panel. subtitle: what was scored, under the title.

    Returns:
        The two paths.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ImportError("the figures need matplotlib: pip install 'vmhan[report]'") from error
    draw, width, height = DRAWERS[data["figure"]]
    names = _row_names(data)
    looks = {name: _look(index) for index, name in enumerate(names)}
    sizes = [width(panel) for panel in data["panels"]]
    # svg.fonttype none keeps text as text; a fixed salt and no date give the same bytes at every run
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vmhan", "font.size": 9}):
        figure = Figure(figsize=(max(5.0, sum(sizes)), height(names)), layout="constrained")
        figure.suptitle(f"{data['figure'].capitalize()}: {data['title']}\n{subtitle}", fontsize=10)
        shared = draw in (_draw_groups, _draw_shares)  # both panels are of F1
        columns = figure.subplots(1, len(sizes), width_ratios=sizes, squeeze=False, sharey=shared)[0]
        for axes, panel in zip(columns, data["panels"]):
            draw(axes, panel, looks)
            if shared:
                axes.label_outer()
            axes.spines[["top", "right"]].set_visible(False)
        _draw_legend(figure, aside=len(sizes) == 1 and draw in (_draw_times, _draw_reliability))
        return [_save(figure, stem.with_suffix(f".{kind}")) for kind in ("png", "svg")]


def _draw_legend(figure: Any, *, aside: bool) -> None:
    """One for all panels: below, in as many columns as fit, or to the right."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    if aside:
        figure.legend(handles.values(), handles, loc="outside right center", frameon=False)
    elif handles:
        columns = max(1, int(figure.get_figwidth() / (0.5 + 0.085 * max(map(len, handles)))))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False)


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    kind = path.suffix[1:]
    figure.savefig(temporary, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    os.replace(temporary, path)
    return path


def _row_names(data: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for panel in data["panels"]:
        for holder in [panel, *panel.get("groups", [])]:
            for key in ("rows", "lines", "points"):
                found += holder.get(key, {})
    return list(dict.fromkeys(found))


def _look(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index // len(COLOURS) % len(MARKERS)]}


def _percent(scores: dict[str, Any]) -> tuple[float, list[list[float]]]:
    """F1 (or accuracy) in percent and, as matplotlib takes them, the distances down and up to the interval's ends."""
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
        shares = [100 * point["share"] for point in points]
        colour = looks[name]["color"]
        axes.plot(shares, [100 * point["f1"] for point in points], label=name, markersize=5, **looks[name])
        bounds = ([100 * point[end] for point in points] for end in ("low", "high"))
        axes.fill_between(shares, *bounds, color=colour, alpha=0.15, linewidth=0)
    how = {"evaluated": "taken away at evaluation", "trained": "taken away in training and evaluation"}
    axes.set_title(how[panel["name"]], fontsize=9)
    axes.set(xlim=(-3, 103), xlabel="visual nodes kept (%)", ylabel="micro F1 (%)")
    axes.grid(color="0.9")


def _draw_times(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """One point a row; the legend names it, since labels beside points would overlap."""
    key = "relative" if panel["reference"] else "seconds"
    for name, point in panel["points"].items():
        f1, error = _percent(point)
        axes.errorbar(point[key], f1, error, linestyle="", capsize=2, markersize=6, label=name, **looks[name])
    if panel["reference"]:
        axes.axvline(1, color="0.5", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.1 * max([1.0 if panel["reference"] else 0.0, *(p[key] for p in panel["points"].values())]))
    axes.set(xlabel=panel["x"], ylabel="micro F1 (%)")
    axes.grid(color="0.9")


def _draw_detection(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """One line a row, the first one on top."""
    rows = panel["rows"]
    for place, scores in enumerate(rows.values()):
        f1, error = _percent(scores)
        axes.errorbar(f1, place, xerr=error, linestyle="", capsize=2, markersize=6, color="black", marker="o")
        for letter, key, colour in (("$P$", "precision", COLOURS[0]), ("$R$", "recall", COLOURS[1])):
            if key in scores:
                axes.plot(100 * scores[key], place, marker=letter, markersize=8, linewidth=0, color=colour)
    titles = {
        "detection": ("is there a relation?", "F1, precision (P), recall (R) (%)"),
        "typing": ("which one, where one was rightly found?", "accuracy (%)"),
    }
    axes.set_title(titles[panel["name"]][0], fontsize=9)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=titles[panel["name"]][1])
    axes.grid(axis="x", color="0.9")


def _draw_reliability(axes: Any, panel: dict[str, Any], looks: dict[str, Any]) -> None:
    """Bins of fewer pairs have smaller points."""
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
    for name, row in panel["rows"].items():
        pairs = sum(found["pairs"] for found in row["bins"])
        places = [[found[key] for found in row["bins"]] for key in ("confidence", "accuracy")]
        sizes = [8 + 150 * found["pairs"] / pairs for found in row["bins"]]
        axes.plot(*places, color=looks[name]["color"], linewidth=1)
        axes.scatter(*places, s=sizes, label=f"{name}, ECE {row['ece']:.3f}", alpha=0.8, **looks[name])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.grid(color="0.9")


def _grouped_width(panel: dict[str, Any]) -> float:
    """Inches."""
    rows = len(panel["groups"][0]["rows"])
    return max(2.8, 0.9 + len(panel["groups"]) * max(1.0, 0.2 * rows))


# figure: (draws a panel, inches a panel is wide, inches the figure is high)
DRAWERS: dict[str, tuple[Callable, Callable, Callable]] = {
    **dict.fromkeys(("Figure 3", "Figure 4", "spans"), (_draw_groups, _grouped_width, lambda names: 4.2)),
    "Figure 5": (_draw_shares, lambda panel: 4.5, lambda names: 4.2),
    "Figure 6": (_draw_times, lambda panel: 7.0, lambda names: max(4.2, 1 + 0.21 * len(names))),
    "detection": (_draw_detection, lambda panel: 4.6, lambda names: 1.6 + 0.42 * len(names)),
    "calibration": (_draw_reliability, lambda panel: 7.0, lambda names: max(5.0, 1 + 0.21 * len(names))),
}
