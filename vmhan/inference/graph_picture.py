"""A picture of a graph of facts: a chip for each node, coloured by its type, and lines from heads over facts to tails.

Connected parts are laid out alone and set beside each other. A fact has a place of its own, as a node has, and places
that overlap are pushed apart, so that no words hide others. All is drawn at twice its final size, as Pillow does not
smooth lines.
"""

import math
from collections.abc import Hashable
from pathlib import Path

import networkx
import numpy as np
from PIL import Image, ImageDraw

from modeling_vmhan.drawing import EDGE_COLOURS, ink_on
from modeling_vmhan.fonts import draw_text, is_right_to_left, missing_note, text_length
from modeling_vmhan.words import shortened


__all__ = ["MAX_NODES", "write_picture"]

MAX_NODES, MAX_FACTS = 50, 100  # with more, nobody finds anything, and it takes minutes
MAX_CHARACTERS = 36  # of a name
FONT_SIZE, TITLE, MARGIN = 32, 42, 60
HEIGHT, PADDING, GAP = 52, 18, 34  # of a chip, beside its words, and between chips
STEP = (230.0, 120.0)  # from a node to its facts, along x and y
ROOM = 2.0  # of the area of the chips, at least, that a part is laid out in
ROUNDS = 1000  # of pushing
INK, PAPER, FAINT, LINE = (30, 30, 30), (255, 255, 255), (238, 238, 238), (140, 140, 140)

Places = dict[Hashable, np.ndarray]  # (x, y) of a node or, by (head, tail, key), of a fact


def write_picture(graph: networkx.MultiDiGraph, target: Path) -> None:
    """A PNG of what `graph.fact_graph` gives: MAX_NODES and MAX_FACTS between them, those with the most support."""
    kept = sorted(graph, key=lambda node: -graph.nodes[node]["support"])[:MAX_NODES]
    shown = graph.subgraph(kept).copy()
    facts = sorted(shown.edges(keys=True), key=lambda fact: -shown.edges[fact]["support"])
    shown.remove_edges_from(facts[MAX_FACTS:])
    count = f"{len(facts)} facts" if len(facts) <= MAX_FACTS else f"{MAX_FACTS} of {len(facts)} facts"
    title = f"{len(shown)} entities, {count}"
    if len(shown) < len(graph):
        title = f"The {len(shown)} entities with the most support, of {len(graph)}: {count}"
    words = {node: shortened(name, MAX_CHARACTERS) for node, name in shown.nodes(data="name")}
    for *fact, of in shown.edges(keys=True, data=True):
        words[tuple(fact)] = f"{of['relation'].rsplit('/')[-1]} {of['score']:.2f} ×{of['support']}"
    sizes = {key: np.array([text_length(text, FONT_SIZE) + 2 * PADDING, HEIGHT]) for key, text in words.items()}
    places, size = _placed(shown, sizes)
    types = list(dict.fromkeys(type_ for _, type_ in shown.nodes(data="type")))
    colours = {type_: EDGE_COLOURS[i % len(EDGE_COLOURS)] for i, type_ in enumerate(types)}
    note = missing_note([title, *words.values()])
    legend = sum(text_length(type_, FONT_SIZE) + 3 * PADDING for type_ in types)
    width = max(size[0], text_length(title, TITLE), text_length(note, FONT_SIZE), legend)
    picture = Image.new("RGB", (math.ceil(width) + 2 * MARGIN, math.ceil(size[1]) + 4 * MARGIN + 2 * TITLE), PAPER)
    draw_text(picture, (MARGIN, MARGIN), title, INK, TITLE)
    places = {key: place + (MARGIN, 2 * MARGIN + TITLE) for key, place in places.items()}
    _draw_lines(picture, shown, places, sizes)
    for key, place in places.items():
        _draw_chip(picture, words[key], place, sizes[key], colours[shown.nodes[key]["type"]] if key in shown else None)
    x, y = MARGIN, picture.height - 1.5 * MARGIN - TITLE
    for type_, colour in colours.items():
        size = np.array([text_length(type_, FONT_SIZE) + 2 * PADDING, HEIGHT])
        _draw_chip(picture, type_, np.array([x + size[0] / 2, y + FONT_SIZE / 2]), size, colour)
        x += size[0] + PADDING
    draw_text(picture, (MARGIN, y + 1.5 * TITLE), note, INK, FONT_SIZE)
    picture.reduce(2).save(target)


def _placed(graph: networkx.MultiDiGraph, sizes: Places) -> tuple[Places, np.ndarray]:
    """The middle of each node and fact, and the size of all together: the parts in rows, high ones first."""
    between = networkx.Graph()
    between.add_nodes_from(graph)
    for fact in graph.edges(keys=True):
        between.add_edges_from([(fact[0], fact), (fact, fact[1])])
    parts = [_laid_out(between.subgraph(part), sizes) for part in networkx.connected_components(between)]
    parts.sort(key=lambda part: -part[1][1])
    limit = max([math.sqrt(1.6 * sum(math.prod(size) for _, size in parts)), *(size[0] for _, size in parts)])
    places, (x, y), row, width = {}, (0.0, 0.0), 0.0, 0.0
    for middles, size in parts:
        if x + size[0] > limit + 1:
            x, y, row = 0.0, y + row + 2 * GAP, 0.0
        places |= {key: place + (x, y) for key, place in middles.items()}
        x, row, width = x + size[0] + 2 * GAP, max(row, size[1]), max(width, x + size[0])
    return places, np.array([width, y + row])


def _laid_out(part: networkx.Graph, sizes: Places) -> tuple[Places, np.ndarray]:
    """The middles of a connected part's nodes and facts, from (0, 0) on, and its size."""
    keys = list(part)
    found = networkx.kamada_kawai_layout(part)
    halves = np.array([sizes[key] for key in keys]) / 2
    lengths = [math.dist(found[a], found[b]) for a, b in part.edges]
    middles = np.array([found[key] for key in keys]) / np.mean(lengths or [1]) * STEP  # (N, 2)
    area = np.prod(middles.max(axis=0) - middles.min(axis=0))
    crowding = ROOM * np.prod(2 * halves + GAP, axis=1).sum() / max(area, math.prod(STEP))
    middles = _pushed_apart(middles * max(1, math.sqrt(crowding)), halves)
    corner = (middles - halves).min(axis=0)
    return dict(zip(keys, middles - corner)), (middles + halves).max(axis=0) - corner


def _pushed_apart(middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Boxes, given by their middles and half their sizes (N, 2), moved until GAP is between any two of them."""
    order = np.sign(np.subtract.outer(np.arange(len(middles)), np.arange(len(middles))))  # (N, N)
    for _ in range(ROUNDS):
        away = middles[:, None] - middles  # (N, N, 2)
        missing = halves[:, None] + halves + GAP - np.abs(away)  # (N, N, 2)
        overlap = (missing > 0.5).all(axis=-1) & (order != 0)
        if not overlap.any():
            break
        along = missing.argmin(axis=-1)[..., None] == (0, 1)  # the axis on which less is missing
        signs = np.where(away == 0, order[..., None], np.sign(away))
        middles = middles + np.where(overlap[..., None] & along, signs * missing / 2, 0).sum(axis=1) * 0.7
    return middles


def _draw_lines(picture: Image.Image, graph: networkx.MultiDiGraph, places: Places, sizes: Places) -> None:
    """From each head to the fact, and on to the tail, where an arrow ends."""
    draw = ImageDraw.Draw(picture)
    for fact in graph.edges(keys=True):
        head, tail, middle = places[fact[0]], places[fact[1]], places[fact]
        draw.line([*head, *middle, *tail], LINE, 4)
        away = middle - tail
        to_border = sizes[fact[1]] / 2 / np.maximum(np.abs(away), 1e-6)  # of the tail's chip, along x and y
        end = tail + away * min(to_border)
        away = away / np.linalg.norm(away)
        side = np.array([-away[1], away[0]])
        draw.polygon([tuple(end), *(tuple(end + 24 * away + 10 * sign * side) for sign in (1, -1))], LINE)


def _draw_chip(picture: Image.Image, text: str, middle: np.ndarray, size: np.ndarray, colour: tuple | None) -> None:
    """Words on a node's colour, or on the light ground of a fact, which has none."""
    box = (*(middle - size / 2), *(middle + size / 2))
    ImageDraw.Draw(picture).rounded_rectangle(box, 14, fill=colour or FAINT)
    place = (box[0] + PADDING, middle[1])
    ink = ink_on(colour or FAINT)
    draw_text(picture, place, text, ink, FONT_SIZE, middle=True, rtl=bool(is_right_to_left(text)))
