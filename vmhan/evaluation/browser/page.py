"""The error browser's page: one HTML file with everything in it. Whatever comes from data or a model is escaped.

Jinja2 escapes by default. The page's Content-Security-Policy also lets only its own script run (by its hash) and
nothing be fetched, so that no text could act even if it were not escaped.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from modeling_vmhan.drawing import NODE_COLOURS
from modeling_vmhan.images import load_image
from vmhan.evaluation.browser.data import KINDS, WrongPair
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.scorer import confusion, per_relation


__all__ = ["card_of", "heat_map", "image_url", "render"]

HERE = Path(__file__).parent
IMAGE_SIDE, JPEG_QUALITY = 480, 80  # of the longer side, pixels
TOP, MAX_NODES, MAX_HYPEREDGES, MAX_MEMBERS = 3, 8, 5, 3  # shown of each, the heaviest
CELL, LETTER, MARGIN = 27, 6.6, 14  # of the confusion matrix, pixels; LETTER is the width of one of a label
CORRECT, WRONG = (15, 118, 110), (190, 18, 60)


def render(page: Mapping[str, Any], pairs: Sequence[WrongPair], predictions: Predictions) -> str:
    """The page. `page` has strings title, split, command and made_by; lists about of (name, value), scores of {name,
    value, note}, notes (what is missing) and leaks (reasons). `pairs` are the wrong ones in the order shown,
    `predictions` all of the split.
    """
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, **options)
    gold, predicted, labels = predictions.gold, predictions.predicted, predictions.labels
    counts = Counter(pair.kind for pair in pairs)
    style, script = ((HERE / f"browser.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    relations = per_relation(gold, predicted, labels=labels, none_label=predictions.none_label)
    return environment.get_template("browser.html").render(
        page,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        node_colours={kind.replace(" ", "-"): f"rgb{colour}" for kind, colour in NODE_COLOURS.items()},
        matrix=heat_map(gold, predicted, labels),
        relations=sorted(relations, key=lambda row: -row["support"]),
        shown_labels=sorted({label for pair in pairs for label in (pair.row["relation"], pair.row["predicted"])}),
        kinds=[{"key": key, "name": name, "count": counts[key]} for key, name in KINDS.items()],
        cards=[card_of(pair, labels) for pair in pairs],
    )


def heat_map(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Where the squares and names of the confusion matrix are drawn, in pixels, without labels that never occur.

    A square is as dark as its share of its row: green on the diagonal, red elsewhere.
    """
    shown = [label for label in labels if label in {*gold, *predicted}]
    counts = confusion(gold, predicted, labels=shown)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    left = top = MARGIN + LETTER * max(map(len, shown))
    cells = []
    for i, row in enumerate(shown):
        for j, column in enumerate(shown):
            share, place = float(shares[i, j]), {"x": left + j * CELL, "y": top + i * CELL}
            look = {"colour": _shade(CORRECT if i == j else WRONG, share), "dark": share > 0.55}
            cell = {"gold": row, "predicted": column, "count": int(counts[i, j]), "share": share}
            cells.append({**cell, **place, **look})
    names = [{"name": name, "at": i * CELL + CELL / 2} for i, name in enumerate(shown)]
    return {"cells": cells, "names": names, "left": left, "top": top, "cell": CELL, "side": len(shown) * CELL}


def _shade(colour: tuple[int, int, int], share: float) -> str:
    """From nearly white to `colour`; a square with a single pair of a large row is still seen."""
    strength = 0.12 + 0.88 * share
    shade = (round(255 + (part - 255) * strength) for part in colour)
    return "rgb({}, {}, {})".format(*shade) if share else "#f3f4f7"


def card_of(pair: WrongPair, labels: Sequence[str]) -> dict[str, Any]:
    """What the template shows of one error; of what there is none, None."""
    row, post = pair.row, pair.post or {}
    ranked = sorted(zip(labels, row["probabilities"], strict=True), key=lambda entry: -entry[1])
    ranked = ranked[:TOP] + [entry for entry in ranked[TOP:] if entry[0] == row["relation"]]
    return {
        "kind": pair.kind,
        "kind_name": KINDS[pair.kind],
        "row": row,
        "ranking": [{"relation": name, "probability": p, "is_gold": name == row["relation"]} for name, p in ranked],
        "sentence": _sentence(post["tokens"], post["pairs"][row["pair"]]) if post else None,
        "caption": post.get("caption"),
        "image_phrases": list(post.get("image_phrases") or []),
        "picture": _picture(pair, post) if post.get("image") is not None else None,
        "attention": _attention(pair.explanation) if pair.explanation else None,
    }


def _sentence(tokens: Sequence[str], pair: dict[str, Any]) -> list[tuple[str, str]]:
    """(words, "", "head", "tail" or "head tail"): neighbours of one role together, for mentions may overlap."""
    spans = {"head": pair["head"], "tail": pair["tail"] or (0, 0)}
    roles = [" ".join(role for role, (start, end) in spans.items() if start <= i < end) for i in range(len(tokens))]
    grouped = groupby(zip(tokens, roles), key=lambda token: token[1])
    return [(" ".join(token for token, _ in group), role) for role, group in grouped]


def _picture(pair: WrongPair, post: dict[str, Any]) -> dict[str, Any]:
    """The image and its boxes, in per cent of its sides; a box that the model looked at has its node's weight."""
    image, labels = load_image(post["image"]), post.get("object_labels") or []
    nodes = (pair.explanation or {}).get("nodes", [])
    weights = {tuple(node["box"]): node["weight"] for node in nodes if node["box"] is not None}
    tail, boxes = post["pairs"][pair.row["pair"]].get("tail_object"), []
    for index, box in enumerate(post.get("boxes") or []):
        x1, y1, x2, y2 = (100 * value / image.size[i % 2] for i, value in enumerate(box))
        weight = weights.get(tuple(map(float, box)))
        label = labels[index] if index < len(labels) and labels[index] else f"object {index}"
        place = f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%"
        boxes.append({"label": label, "kind": "tail" if index == tail else "object", "weight": weight, "place": place})
        boxes[-1]["is_used"] = index == tail or weight is not None
    boxes.sort(key=lambda box: (box["is_used"], box["weight"] or 0))  # the heavy ones on top
    return {"url": image_url(image), "boxes": boxes}


def image_url(image: Image.Image) -> str:
    """A data: URL of the image as a JPEG file of at most IMAGE_SIDE pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _attention(explanation: dict[str, Any]) -> dict[str, Any]:
    """The heaviest nodes and hyperedges; the latter with their heaviest members."""
    nodes = explanation["nodes"]
    looked_at = [edge for edge in explanation["hyperedges"] if edge["weight"] > 0]  # others hold neither head nor tail
    hyperedges = []
    for edge in _heaviest(looked_at, MAX_HYPEREDGES):
        members = [(nodes[m["node"]]["text"], m["weight"]) for m in _heaviest(edge["members"], MAX_MEMBERS)]
        hyperedges.append({"name": edge["name"], "weight": edge["weight"], "members": members})
    return {"nodes": _heaviest(nodes, MAX_NODES), "hyperedges": hyperedges, "num_nodes": len(nodes)}


def _heaviest(entries: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: -entry["weight"])[:count]
