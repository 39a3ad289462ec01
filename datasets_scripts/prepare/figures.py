"""Pictures of a prepared data set: bar charts, the hypergraphs of a post, and a contact sheet of images with boxes."""

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datasets_scripts.figure_fonts import figure_fonts
from datasets_scripts.prepare.hypergraph_figure import draw_hypergraph
from model_cards.files import whole_file


__all__ = ["draw_figures"]

CHARTS = {
    "relations": "Pairs of each relation",
    "pairs_a_post": "Posts by their number of pairs",
    "objects_an_image": "Images by their number of objects",
}
SHEET = "Images with their boxes; those chosen for a pair in colour"
HYPERGRAPH = "The nodes and hyperedges of a post, for each of its pairs and for all of them"
SHEET_IMAGES = 24
SHEET_READS = ["id", "tokens", "image", "boxes", "object_labels", "pairs"]


def draw_figures(folder: Path, files: dict[str, list[Path]], splits: dict[str, Any]) -> dict[str, str]:
    """Draw the Parquet `files` of each split and `splits` as in statistics.json; returns {path beside README.md:
    title}.
    """
    drawn: dict[str, str] = {}
    for name, title in CHARTS.items():
        bars = {split: of_split[name] for split, of_split in splits.items()}
        if any(any(counts.values()) for counts in bars.values()):
            _draw_bars(folder / f"{name}.png", title, bars)
            drawn[f"{folder.name}/{name}.png"] = title
    draw_hypergraph(folder / "hypergraph.png", _post_of_pairs(next(iter(files.values()))))
    drawn[f"{folder.name}/hypergraph.png"] = HYPERGRAPH
    if entries := next(filter(None, map(_sheet_entries, files.values())), None):
        from datasets_scripts.detection.drawing import contact_sheet  # here, as it brings in torch

        with whole_file(folder / "contact_sheet.jpg") as temporary:
            contact_sheet(entries).save(temporary)
        drawn[f"{folder.name}/contact_sheet.jpg"] = SHEET
    return drawn


def _post_of_pairs(files: list[Path]) -> dict[str, Any]:
    """Return the first post with two to four pairs of the first posts, or the first; a file may have none."""
    names = ["tokens", "caption", "image_phrases", "object_labels", "pairs", "hypergraph"]
    batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches(SHEET_IMAGES, columns=names))
    posts = next(batches).to_pylist()
    return next((post for post in posts if len(post["pairs"]) in (2, 3, 4)), posts[0])


@figure_fonts()
def _draw_bars(path: Path, title: str, bars: dict[str, dict[str, int]]) -> None:
    """Draw a group of bars for each name and a colour for each split; counts that differ 50 times get a logarithm."""
    from matplotlib.figure import Figure  # not pyplot, which has a state and wants a screen

    names = list(dict.fromkeys(name for counts in bars.values() for name in counts))
    if all(name.isdigit() for name in names):
        names.sort(key=int)
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(names)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(bars)
    for index, (split, counts) in enumerate(bars.items()):
        places = [place + (index - (len(bars) - 1) / 2) * height for place in range(len(names))]
        axes.barh(places, [counts.get(name, 0) for name in names], height=height, label=split)
    values = [count for counts in bars.values() for count in counts.values() if count]
    if max(values) > 50 * min(values):
        axes.set_xscale("log")
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)  # no mathematics
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def _sheet_entries(files: list[Path]) -> list[tuple[Any, ...]]:
    """Return (image, detections, chosen objects, title) of the first posts of a split that have an image."""
    if "image" not in pq.read_schema(files[0]).names:
        return []
    from datasets_scripts.detection.base import Detection
    from modeling_vmhan.images import load_image  # here, as it brings in torch

    batches = (
        batch for path in files for batch in pq.ParquetFile(path).iter_batches(SHEET_IMAGES, columns=SHEET_READS)
    )
    posts = (post for batch in batches for post in batch.to_pylist() if post["image"] is not None)
    entries = []
    for post in islice(posts, SHEET_IMAGES):
        tails = [pair["tail_object"] for pair in post["pairs"] if pair["tail_object"] >= 0]
        chosen = dict.fromkeys([*tails, *(index for pair in post["pairs"] for index in pair["objects"] or [])])
        boxes = zip(post["boxes"], post["object_labels"], strict=True)
        found = [Detection(tuple(box), None, label) for box, label in boxes]
        title = f"{post['id']}: {' '.join(post['tokens'])}"
        entries.append((load_image(post["image"]), found, list(chosen) or None, title))
    return entries
