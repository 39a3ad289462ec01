"""The error browser's page: one HTML file with everything in it. Whatever comes from data or a model is escaped.

Jinja2 escapes by default; beside that, the page's Content-Security-Policy lets only its own script run (by its hash)
and nothing be fetched, so that no text could act even if it were not escaped.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
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
    """The page.

    Args:
        page: strings title, split, command and made_by; lists facts of (name, value), scores of {name, value, note},
            notes (what is missing) and leaks (reasons).
        pairs: the wrong ones, in the order in which they are shown.
        predictions: of the split, right and wrong.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    gold, predicted, labels = predictions.gold, predictions.predicted, predictions.labels
    counts = Counter(pair.kind for pair in pairs)
    script = (HERE / "browser.js").read_text(encoding="utf-8")
    relations = per_relation(gold, predicted, labels=labels, none_label=predictions.none_label)
    return environment.get_template("browser.html").render(
        page,
        style=Markup((HERE / "browser.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        node_colours={kind.replace(" ", "-"): f"rgb{colour}" for kind, colour in NODE_COLOURS.items()},
        matrix=heat_map(gold, predicted, labels),
        relations=sorted(relations, key=lambda row: -row["support"]),
        shown_labels=sorted({label for pair in pairs for label in (pair.row["relation"], pair.row["predicted"])}),
        kinds=[{"key": key, "name": name, "count": counts[key]} for key, name in KINDS.items()],
        cards=[card_of(pair, labels) for pair in pairs],
    )


def heat_map(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Where the squares and names of the confusion matrix are drawn, in pixels; labels that never occur are left out.

    A square is as dark as its share of its row, that is of the pairs with this gold relation: green on the diagonal,
    red beside it.
    """
    shown = [label for label in labels if label in {*gold, *predicted}]
    counts = confusion(gold, predicted, labels=shown)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    left = top = MARGIN + LETTER * max(map(len, shown))
    cells = [
        {
            "gold": row,
            "predicted": column,
            "count": int(counts[i, j]),
            "share": float(shares[i, j]),
            "x": left + j * CELL,
            "y": top + i * CELL,
            "colour": _shade(CORRECT if i == j else WRONG, float(shares[i, j])),
            "dark": shares[i, j] > 0.55,
        }
        for i, row in enumerate(shown)
        for j, column in enumerate(shown)
    ]
    names = [{"name": name, "at": i * CELL + CELL / 2} for i, name in enumerate(shown)]
    side = len(shown) * CELL
    return {"cells": cells, "names": names, "left": left, "top": top, "cell": CELL, "side": side}


def _shade(colour: tuple[int, int, int], share: float) -> str:
    """From nearly white to `colour`; a square with a single pair of a large row is still seen."""
    if share == 0:
        return "#f3f4f7"
    strength = 0.12 + 0.88 * share
    return "rgb({}, {}, {})".format(*(round(255 + (part - 255) * strength) for part in colour))


def card_of(pair: WrongPair, labels: Sequence[str]) -> dict[str, Any]:
    """What the template shows of one error."""
    row, post = pair.row, pair.post
    return {
        "kind": pair.kind,
        "kind_name": KINDS[pair.kind],
        "row": row,
        "ranking": _ranking(row, labels),
        "sentence": None if post is None else _sentence(post, post["pairs"][row["pair"]]),
        "caption": None if post is None else post.get("caption"),
        "image_phrases": [] if post is None else list(post.get("image_phrases") or []),
        "picture": None if post is None else _picture(pair),
        "attention": None if pair.explanation is None else _attention(pair.explanation),
    }


def _ranking(row: dict[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The most probable relations, and the gold one if it is none of them."""
    ranked = sorted(zip(labels, row["probabilities"], strict=True), key=lambda entry: -entry[1])
    shown = ranked[:TOP] + [entry for entry in ranked[TOP:] if entry[0] == row["relation"]]
    return [{"relation": name, "probability": p, "is_gold": name == row["relation"]} for name, p in shown]


def _sentence(post: dict[str, Any], pair: dict[str, Any]) -> list[tuple[str, str]]:
    """(words, "", "head", "tail" or "head tail"): neighbours of one role together, for mentions may overlap."""
    parts: list[tuple[list[str], str]] = []
    for position, token in enumerate(post["tokens"]):
        spans = {"head": pair["head"], "tail": pair["tail"] or (0, 0)}
        roles = " ".join(role for role, (start, end) in spans.items() if start <= position < end)
        if parts and parts[-1][1] == roles:
            parts[-1][0].append(token)
        else:
            parts.append(([token], roles))
    return [(" ".join(tokens), roles) for tokens, roles in parts]


def _picture(pair: WrongPair) -> dict[str, Any] | None:
    """The image and its boxes, in per cent of its sides; a box that the model looked at has its node's weight."""
    if pair.post is None or pair.post.get("image") is None:
        return None
    image = load_image(pair.post["image"])
    return {"url": image_url(image), "boxes": _boxes(pair, image.size)}


def _boxes(pair: WrongPair, size: tuple[int, int]) -> list[dict[str, Any]]:
    post = pair.post or {}
    labels = post.get("object_labels") or []
    seen = {}
    for node in (pair.explanation or {}).get("nodes", []):
        if node["box"] is not None:
            seen[tuple(node["box"])] = node
    boxes = []
    for index, box in enumerate(post.get("boxes") or []):
        box = tuple(float(value) for value in box)
        label = labels[index] if index < len(labels) and labels[index] else f"object {index}"
        is_tail = index == post["pairs"][pair.row["pair"]].get("tail_object")
        node = seen.get(box)
        x1, y1, x2, y2 = (100 * value / size[i % 2] for i, value in enumerate(box))
        boxes.append(
            {
                "label": label,
                "kind": "tail" if is_tail else "object",
                "weight": node["weight"] if node else None,
                "is_used": is_tail or node is not None,
                "place": f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%",
            }
        )
    return sorted(boxes, key=lambda box: (box["is_used"], box["weight"] or 0))  # the heavy ones on top


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
    heaviest = sorted(nodes, key=lambda node: -node["weight"])[:MAX_NODES]
    hyperedges = []
    looked_at = [edge for edge in explanation["hyperedges"] if edge["weight"] > 0]  # others hold neither head nor tail
    for edge in sorted(looked_at, key=lambda edge: -edge["weight"])[:MAX_HYPEREDGES]:
        members = sorted(edge["members"], key=lambda member: -member["weight"])[:MAX_MEMBERS]
        named = [(nodes[member["node"]]["text"], member["weight"]) for member in members]
        hyperedges.append({"name": edge["name"], "weight": edge["weight"], "members": named})
    return {"nodes": heaviest, "hyperedges": hyperedges, "num_nodes": len(nodes)}
