"""Pictures of a prepared data set: three bar charts, and a contact sheet of images with their boxes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from datasets_scripts.prepare.files import writing
from datasets_scripts.prepare.images import ImageRecords
from datasets_scripts.prepare.plan import Plan


__all__ = ["check_matplotlib", "draw_figures"]

SHEET_TITLE = "Images with their boxes; those chosen for a pair in colour"
SHEET_IMAGES, SHEET_COLUMNS, SHEET_SIDE = 24, 4, 360
SHEET_READS = ["id", "tokens", "image", "boxes", "object_labels", "pairs"]
LAST_BAR = 20  # of a histogram


def check_matplotlib() -> None:
    """ImportError before any work is done, rather than after all of it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "figures: expected matplotlib to draw them with, found none. pip install 'vmhan[report]', or pass "
            "--figures false"
        ) from error


def draw_figures(plan: Plan, files: dict[str, list[Path]], statistics: dict[str, Any], folder: Path) -> dict[str, str]:
    """Draw what there is something to draw of; returns {path beside README.md: what it shows}."""
    splits = statistics["splits"]
    figures = {
        "relations.png": ("Pairs of each relation", {name: split["relations"] for name, split in splits.items()}),
        "pairs_a_sentence.png": ("Sentences by their number of pairs", _histograms(splits, "pairs_a_post")),
        "objects_an_image.png": ("Images by their number of objects", _histograms(splits, "objects_an_image")),
    }
    drawn: dict[str, str] = {}
    for name, (title, bars) in figures.items():
        if any(map(any, (counts.values() for counts in bars.values()))):
            _draw_bars(folder / name, title, bars)
            drawn[f"{folder.name}/{name}"] = title
    if "image" in plan.columns and plan.images.uses:  # a sheet publishes images too
        is_drawn = _draw_sheet(plan, files, folder / "contact_sheet.jpg")
        drawn |= {f"{folder.name}/contact_sheet.jpg": SHEET_TITLE} if is_drawn else {}
    return drawn


def _histograms(splits: dict[str, Any], name: str) -> dict[str, dict[str, int]]:
    """{split: {number: how often}} from the least number to the greatest of all splits, those from LAST_BAR on
    together."""
    counts = {split: {int(n): count for n, count in of_split[name].items()} for split, of_split in splits.items()}
    numbers = [number for of_split in counts.values() for number in of_split]
    bars: dict[str, dict[str, int]] = {split: {} for split in counts}
    if numbers:
        last = min(max(numbers), LAST_BAR)
        for split, of_split in counts.items():
            bars[split] = {str(n): of_split.get(n, 0) for n in range(min(*numbers, last), last)}
            label = str(last) if max(numbers) == last else f"{last} or more"
            bars[split][label] = sum(count for n, count in of_split.items() if n >= last)
    return bars


def _draw_bars(path: Path, title: str, bars: dict[str, dict[str, int]]) -> None:
    """Horizontal bars, a group a name and a colour a split; logarithmic where counts differ by more than 50 times."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which has a state and wants a screen

    names = list(dict.fromkeys(name for counts in bars.values() for name in counts))
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(names)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / len(bars)
    for index, (split, counts) in enumerate(bars.items()):
        places = [place + (index - (len(bars) - 1) / 2) * height for place in range(len(names))]
        axes.barh(places, [counts.get(name, 0) for name in names], height=height, label=split)
    values = [count for counts in bars.values() for count in counts.values() if count]
    if max(values) > 50 * min(values):
        axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend()
    with writing(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _draw_sheet(plan: Plan, files: dict[str, list[Path]], path: Path) -> bool:
    """Up to SHEET_IMAGES posts, evenly over the first split that has images; False if none is left."""
    from datasets_scripts.detection.drawing import contact_sheet

    entries = next(filter(None, (_sheet_entries(plan, split, paths) for split, paths in files.items())), None)
    if entries is not None:
        with writing(path) as file:
            contact_sheet(entries, columns=SHEET_COLUMNS, side=SHEET_SIDE).save(file, format="JPEG")
    return entries is not None


def _sheet_entries(plan: Plan, split: str, paths: list[Path]) -> list[tuple[Any, ...]]:
    """(image, detections, chosen, title) of posts with an image, in order; the source's own boxes have no score."""
    from datasets_scripts.detection.detectors import Detection

    rows = [place for path in paths for place in _rows_with_image(path)]
    records = ImageRecords(plan)
    numbers = dict(zip(plan.source.texts[split]["id"], plan.images.numbers[split], strict=True))
    step = max(len(rows) / SHEET_IMAGES, 1)
    entries = []
    for path, group, index in [rows[int(i * step)] for i in range(min(SHEET_IMAGES, len(rows)))]:
        post = pq.ParquetFile(path).read_row_group(group, columns=SHEET_READS).slice(index, 1).to_pylist()[0]
        scores = records[numbers[post["id"]]]["object_scores"] or [None] * len(post["boxes"])
        parts = zip(map(tuple, post["boxes"]), scores, post["object_labels"], strict=True)
        image = Image.open(io.BytesIO(post["image"]["bytes"]))
        title = f"{post['id']}: {' '.join(post['tokens'])}"
        entries.append((image, [Detection(*part) for part in parts], _kept(post["pairs"]), title))
    return entries


def _kept(pairs: list[dict[str, Any]]) -> list[int] | None:
    """The objects that are a tail or were chosen for a pair, each once; None where nobody chose."""
    tails = [pair["tail_object"] for pair in pairs if pair["tail_object"] >= 0]
    return list(dict.fromkeys([*tails, *(index for pair in pairs for index in pair["objects"])])) or None


def _rows_with_image(path: Path) -> Iterator[tuple[Path, int, int]]:
    """(path, row group, row in it) of each row of a Parquet file that has an image; no image is read."""
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        cells = file.read_row_group(group, columns=["image.path"])["image"].to_pylist()
        yield from ((path, group, i) for i, cell in enumerate(cells) if cell is not None and cell["path"] is not None)
