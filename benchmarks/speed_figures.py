"""Pictures of a speed report: dots with quartiles for what is compared, lines for what grows."""

import os
from pathlib import Path
from typing import Any

from benchmarks.breakdown import PARTS
from benchmarks.timing import ratio, spread


__all__ = ["draw_report"]

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "0.55"
PART_COLOURS = (BLUE, ORANGE, "#e69f00", "#56b4e9", GREY)  # of the parts of a step
PHASES = {"train": "training step", "inference": "inference"}
COLOURS = {"packed": BLUE, "span": GREEN, "marker": ORANGE}
WIDE = 6  # ratios further apart than this are drawn on a logarithmic axis
TICKS = [factor * 10**power for power in range(-3, 4) for factor in (1, 2, 5)]


def draw_report(folder: Path, report: dict[str, Any]) -> dict[str, str]:
    """A PNG for each part that was measured; part -> file name.

    Raises:
        ImportError: matplotlib is not installed.
    """
    tables, pictures = report["tables"], {}
    for part in ("step", "presets", "baselines", "loader"):
        drawn = {name: table for name, table in tables.items() if name.split("/")[0] == part}
        if drawn:
            clock = "wall" if part == "loader" else report["facts"]["clock"]
            pictures[part] = _save(folder, part, _dots(drawn, clock))
    if any(name.startswith("pairs/") for name in tables):
        pictures["pairs"] = _save(folder, "pairs", _pairs(tables, report["facts"]["clock"]))
    for part, draw in (("breakdown", _breakdown), ("memory", _memory), ("growth", _growth), ("head", _head)):
        if part in report:
            pictures[part] = _save(folder, part, draw(report[part]))
    return pictures


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ImportError("the pictures of the speed report need matplotlib: pip install 'vmhan[report]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(folder: Path, name: str, figure: Any) -> str:
    temporary = folder / f".{name}.png.tmp"
    figure.savefig(temporary, format="png", dpi=130)
    os.replace(temporary, folder / f"{name}.png")
    return f"{name}.png"


def _dots(tables: dict[str, dict[str, Any]], clock: str) -> Any:
    """An axis a table, a dot a row: its time against the reference's."""
    rows = max(len(table["rows"]) for table in tables.values())
    figure = _figure(1.6 + 4.2 * len(tables), 1.3 + 0.3 * rows)
    for axes, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items()):
        ratios = {row: values["ratio"][clock] for row, values in table["rows"].items()}
        phase = PHASES.get(name.split("/")[-1], "loading")
        _draw_ratios(axes, ratios, table["reference"], f"{clock} time / {table['reference']}")
        axes.set_title(phase, fontsize=10)
    return figure


def _draw_ratios(axes: Any, ratios: dict[str, dict[str, float]], reference: str, label: str) -> None:
    near = {"textcoords": "offset points", "va": "center", "fontsize": 8, "zorder": 3}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for place, (name, row) in enumerate(ratios.items()):
        colour = GREY if name == reference else BLUE
        axes.plot([row["lower_quartile"], row["upper_quartile"]], [place, place], color=colour, linewidth=2.5)
        axes.plot([row["median"]], [place], marker="o", markersize=6, color=colour, zorder=4)
        axes.annotate(f"{row['median']:.2f}", (row["upper_quartile"], place), xytext=(7, 0), bbox=box, **near)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xlabel(label)
    _scale(axes, [row[name] for row in ratios.values() for name in ("lower_quartile", "upper_quartile")])
    _plain(axes)


def _scale(axes: Any, ratios: list[float]) -> None:
    """The axis of the ratios: with room for their numbers, and not so fine that noise looks like a difference."""
    low, high = min(ratios), max(ratios)
    if high <= WIDE * low:
        room = max(0.15 * (high - low), 0.05)
        axes.set_xlim(low - room, high + 2 * room)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.3, high * 2)
    ticks = [tick for tick in TICKS if low / 1.3 <= tick <= high * 2]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _plain(axes: Any) -> None:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _pairs(tables: dict[str, Any], clock: str) -> Any:
    """Pairs per second against marker's, over the number of pairs; dotted: the ratio of tokens encoded."""
    phases = list(dict.fromkeys(name.split("/")[1] for name in tables if name.startswith("pairs/")))
    figure = _figure(1.2 + 4.4 * len(phases), 3.6)
    for axes, phase in zip(figure.subplots(1, len(phases), squeeze=False)[0], phases):
        of_phase = {int(n.split("/")[2]): t["rows"] for n, t in tables.items() if n.startswith(f"pairs/{phase}/")}
        counts = sorted(of_phase)
        for mode, colour in COLOURS.items():
            rows = [of_phase[count][mode] for count in counts]
            markers = [of_phase[count]["marker"] for count in counts]
            speeds = [ratio(m["seconds"][clock], r["seconds"][clock]) for m, r in zip(markers, rows)]
            low, high = ([speed[name] for speed in speeds] for name in ("lower_quartile", "upper_quartile"))
            axes.plot(counts, [speed["median"] for speed in speeds], color=colour, marker="o", label=mode)
            axes.fill_between(counts, low, high, color=colour, alpha=0.2, linewidth=0)
            if mode != "marker":
                tokens = [m["work"]["tokens"] / r["work"]["tokens"] for m, r in zip(markers, rows)]
                axes.plot(counts, tokens, color=colour, linestyle=":", label=f"{mode}: ratio of tokens")
        axes.set_title(PHASES[phase], fontsize=10)
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("pairs a sentence")
        axes.set_ylabel(f"pairs per second / marker's\n({clock} time)")
        _plain(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _breakdown(part: dict[str, Any]) -> Any:
    """A bar a kind of sentence and representation, cut into the parts of a step."""
    bars = {f"{title}: {name}": row for title, of in part.items() for name, row in of["rows"].items()}
    figure = _figure(7.2, 1.4 + 0.32 * len(bars))
    axes, left = figure.subplots(), [0.0] * len(bars)
    for step_part, colour in zip(PARTS, PART_COLOURS, strict=True):
        widths = [1000 * spread(row["seconds"][step_part])["median"] / row["work"]["pairs"] for row in bars.values()]
        axes.barh(range(len(bars)), widths, left=left, color=colour, label=step_part, height=0.7)
        left = [start + width for start, width in zip(left, widths)]
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlabel(f"{next(iter(part.values()))['clock']} time, milliseconds a pair")
    _plain(axes)
    figure.legend(loc="outside upper center", ncols=len(PARTS), frameon=False, fontsize=8)
    return figure


def _memory(part: dict[str, Any]) -> Any:
    figure, reference = _figure(5.8, 1.3 + 0.3 * len(part["rows"])), part["rows"][part["reference"]]
    name = "peak_resident_mib"
    ratios = {run: ratio(row[name], reference[name]) for run, row in part["rows"].items()}
    _draw_ratios(figure.subplots(), ratios, part["reference"], f"peak resident memory / {part['reference']}")
    return figure


def _growth(part: dict[str, Any]) -> Any:
    """Peak memory and time of a post over the number of rows, against the fewest."""
    figure, reference = _figure(5.8, 3.4), part["rows"][part["reference"]]
    axes, sizes = figure.subplots(), [int(size) for size in part["rows"]]
    names = (
        ("peak_anonymous_mib", "peak anonymous memory", BLUE),
        ("seconds_a_post", "processor time of a post", ORANGE),
    )
    for name, label, colour in names:
        medians = [ratio(row[name], reference[name])["median"] for row in part["rows"].values()]
        axes.set_ylim(0, max(1.15 * max(medians), axes.get_ylim()[1]))
        axes.plot(sizes, medians, marker="o", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("rows of the data set")
    axes.set_ylabel(f"ratio to {sizes[0]:,} rows")
    _plain(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _head(part: dict[str, Any]) -> Any:
    """Time of the head over its matrix products', over the number of pairs in the batch."""
    figure, rows = _figure(5.8, 3.4), part["growth"]
    axes, pairs, name = figure.subplots(), [row["pairs"] for row in rows], "head / products"
    axes.plot(pairs, [row[name]["median"] for row in rows], marker="o", color=BLUE)
    low, high = ([row[name][quartile] for row in rows] for quartile in ("lower_quartile", "upper_quartile"))
    axes.fill_between(pairs, low, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(pairs, [f"{count:,}" for count in pairs])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(high))
    axes.set_xlabel("pairs in the batch")
    axes.set_ylabel("processor time of V-HAN's head /\nits matrix products alone")
    _plain(axes)
    return figure
