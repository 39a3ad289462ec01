"""The picture of an explanation: the image with its boxes, the hyperedges, the words; line width is attention.

A line joins a hyperedge to each of its members, as wide as the hyperedge's weight times the member's, relative to the
widest; an outline is as wide as the node's weight, relative to the heaviest; a bar's full length is 100 %. A hyperedge
has one colour in all of the picture, and nothing else has those of head and tail. All is drawn at twice its final size
and then shrunk, because Pillow does not smooth lines.
"""

from itertools import pairwise
from typing import Any

import regex
from PIL import Image, ImageDraw

from .fonts import LEFT_TO_RIGHT, draw_text, is_right_to_left, missing_note, text_length, visual_order


__all__ = ["EDGE_COLOURS", "NODE_COLOURS", "draw_explanation", "edge_colours", "ink_on"]

WIDTH, MARGIN, FONT_SIZE, SMALL = 2200, 56, 38, 30
CHIP = FONT_SIZE + 10  # height of a chip
PANEL = (1300, 840)  # the most that the image takes
GAP = 230  # height of the lines between two rows
LINE, OUTLINE = 22, 16  # width of the heaviest line and outline
MAX_EDGES, MAX_BARS = 6, 12  # drawn, the heaviest ones: the pairwise ablation has dozens of hyperedges

COLUMN, BAR, BAR_STEP = 1000, 460, FONT_SIZE + 16  # width of a column of bars and of a full bar, and height of its row

INK, PAPER, FAINT, GREY = (30, 30, 30), (255, 255, 255), (225, 225, 225), (110, 110, 110)
# Head and tail are of Okabe and Ito's palette, hyperedges near Tol's "muted" one, other nodes are grey: colour-blind
# readers tell them apart too.
EDGE_COLOURS = ((17, 119, 51), (170, 68, 153), (165, 140, 20), (90, 190, 185), (120, 25, 70), (240, 160, 190))
NAMED_EDGES = ("global", "textual", "visual", "head-visual", "tail-visual")
TEXT_GREY, IMAGE_GREY, PAIR_BROWN = (135, 135, 135), (70, 70, 70), (140, 120, 95)
NODE_COLOURS = {
    "head": (0, 114, 178), "tail": (213, 94, 0), "text phrase": TEXT_GREY,
    "image": IMAGE_GREY, "object": IMAGE_GREY, "image phrase": IMAGE_GREY, "mention": PAIR_BROWN, "pair": PAIR_BROWN,
}  # fmt: skip
LEGEND = {"head": "head", "tail": "tail", "text phrase": "text phrase", "image": "image, its objects and phrases"}
POST_LEGEND = LEGEND | {"image": "of the image", "pair": "pairs, other mentions"}

# What stays on one line: space, a word of up to 40 characters, or in scripts whose lines break anywhere a character.
PIECE = regex.compile(
    r"\s+|(?=[\p{Han}\p{Hiragana}\p{Katakana}])\X|(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\s])\X){1,40}"
)

Box = tuple[float, float, float, float]


def draw_explanation(
    explanation: dict[str, list[dict[str, Any]]], text: str, image: Image.Image | None, title: str
) -> Image.Image:
    """What `explanation.explain_pair` returns as a picture in RGB, 1100 pixels wide, as high as it must be.

    text is the sentence, image (RGB) the one in whose pixels boxes are, title the first line, such as the answer.
    """
    drawing = _Drawing(explanation)
    draw_text(drawing.picture, (MARGIN, drawing.bottom), title, INK, FONT_SIZE + 10)
    drawing.bottom += 2 * FONT_SIZE
    drawing.legend()
    drawing.regions(image)
    drawing.hyperedges()
    drawing.sentence(text)
    drawing.lines()
    drawing.bars()
    names = [node["text"] for node in explanation["nodes"]] + [edge["name"] for edge in explanation["hyperedges"]]
    drawing.note(missing_note([title, text, *names]))
    height = int(drawing.bottom + MARGIN) // 2 * 2
    return drawing.picture.crop((0, 0, WIDTH, height)).reduce(2)


def edge_colours(names: list[str]) -> list[tuple[int, int, int]]:
    """A colour for each of at most MAX_EDGES hyperedges, all different; NAMED_EDGES have theirs in every picture."""
    named = {name: EDGE_COLOURS[NAMED_EDGES.index(name)] for name in names if name in NAMED_EDGES}
    free = iter([colour for colour in EDGE_COLOURS[::-1] if colour not in named.values()])
    return [named[name] if name in named else next(free) for name in names]


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark or white letters, whichever have more contrast on this ground (WCAG 2, relative luminance)."""
    linear = [((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.2 else PAPER


class _Drawing:
    """The picture in the making; each method draws one row below the last."""

    def __init__(self, explanation: dict[str, list[dict[str, Any]]]):
        self.nodes = explanation["nodes"]
        ranked = sorted(explanation["hyperedges"], key=lambda edge: -edge["weight"])
        self.edges, self.num_edges = ranked[:MAX_EDGES], len(ranked)
        self.colours = edge_colours([edge["name"] for edge in self.edges])
        self.heaviest = max((node["weight"] for node in self.nodes), default=0) or 1.0
        self.picture = Image.new("RGB", (WIDTH, WIDTH), PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.bottom: float = MARGIN  # of what is drawn so far
        self.node_ends: dict[int, tuple[float, float]] = {}  # where lines to a node end
        self.edge_boxes: list[Box] = []
        self.chips: list[tuple[Box, str, tuple[int, int, int]]] = []

    def room(self, height: float) -> None:
        """Make the picture high enough for `height` more pixels below the last row."""
        needed = int(self.bottom + height + MARGIN)
        if needed > self.picture.height:
            self.picture = self.picture.crop((0, 0, WIDTH, 2 * needed))  # black below
            self.draw = ImageDraw.Draw(self.picture)
            self.draw.rectangle((0, self.bottom, WIDTH, 2 * needed), PAPER)

    def chip(self, x: float, y: float, text: str, colour: tuple[int, int, int]) -> Box:
        """Words on a coloured ground, its upper left corner at (x, y); drawn above all lines, so later."""
        text = _short(text, 60)
        width = text_length(text, SMALL) + 28
        x = max(MARGIN, min(x, WIDTH - MARGIN - width))
        box = (x, y, x + width, y + CHIP)
        self.chips.append((box, text, colour))
        return box

    def legend(self) -> None:
        """One line: what the colours of nodes and the width of lines mean."""
        x = float(MARGIN)
        legend = POST_LEGEND if any(node["kind"] == "pair" for node in self.nodes) else LEGEND
        for kind, words in legend.items():
            middle = self.bottom + SMALL / 2
            self.draw.rectangle((x, middle - 15, x + 30, middle + 15), NODE_COLOURS[kind])
            draw_text(self.picture, (x + 42, middle), words, INK, SMALL, middle=True)
            x += 42 + text_length(words, SMALL) + 48
        draw_text(self.picture, (x, middle), "wide lines and outlines: much attention", INK, SMALL, middle=True)
        self.bottom += 2.2 * SMALL

    def regions(self, image: Image.Image | None) -> None:
        """The image with its outlined regions; beside it the nodes that are neither there nor in the sentence."""
        x, y = MARGIN, self.bottom
        if image is not None:
            scale = min(PANEL[0] / image.width, PANEL[1] / image.height)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            self.picture.paste(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), (MARGIN, int(y)))
            self.outline((MARGIN, y), scale)
            x, self.bottom = 2 * MARGIN + size[0], y + size[1]
        bottom = self.bottom  # of the image
        beside = [i for i, node in enumerate(self.nodes) if node["characters"] is None and i not in self.node_ends]
        beside = [i for i in beside if image is None or self.nodes[i]["kind"] != "image"]
        pairs = sorted((i for i in beside if self.nodes[i]["kind"] == "pair"), key=lambda i: -self.nodes[i]["weight"])
        beside = [i for i in beside if i not in pairs[MAX_BARS:]]  # of which a post may have hundreds
        y = max(y, bottom - len(beside) * (CHIP + 22) + 22)  # low, so that few lines cross the image
        for i, node in enumerate(self.nodes):
            colour = NODE_COLOURS[node["kind"]]
            if node["kind"] == "image" and image is not None:
                box = self.chip(MARGIN, bottom - CHIP, f"image {node['weight']:.0%}", colour)
                self.node_ends[i] = ((box[0] + box[2]) / 2, bottom)
            elif i in beside:
                self.room(y + CHIP - self.bottom)
                box = self.chip(x, y, _label(node), colour)
                self.node_ends[i] = (box[0], (box[1] + box[3]) / 2)
                y = box[3] + 22
                self.bottom = max(self.bottom, box[3])

    def outline(self, origin: tuple[float, float], scale: float) -> None:
        """Boxes on the image, light ones first; their names on top of them all."""
        placed = [i for i, node in enumerate(self.nodes) if node["box"] is not None]
        for i in sorted(placed, key=lambda i: self.nodes[i]["weight"]):
            node = self.nodes[i]
            x1, y1, x2, y2 = (value * scale + origin[side % 2] for side, value in enumerate(node["box"]))
            width, colour = 4 + round(OUTLINE * node["weight"] / self.heaviest), NODE_COLOURS[node["kind"]]
            self.draw.rectangle(
                (x1 - 3, y1 - 3, x2 + 3, y2 + 3), outline=PAPER, width=width + 6
            )  # seen on dark images
            self.draw.rectangle((x1, y1, x2, y2), outline=colour, width=width)
            self.node_ends[i] = ((x1 + x2) / 2, y2)
            self.chip(x1, max(origin[1], y1 - CHIP), f"{node['text']} {LEFT_TO_RIGHT}{node['weight']:.0%}", colour)

    def hyperedges(self) -> None:
        """A row of chips; the lines are drawn when everything has its place."""
        self.room(2 * GAP)
        self.bottom += GAP
        step = (WIDTH - 2 * MARGIN) / max(len(self.edges), 1)
        for i, edge in enumerate(self.edges):
            weight = f" {LEFT_TO_RIGHT}{edge['weight']:.0%}"
            label = _fitted(edge["name"], step - 48 - text_length(weight, SMALL), SMALL) + weight
            middle = MARGIN + step * (i + 0.5) - text_length(label, SMALL) / 2 - 14
            self.edge_boxes.append(self.chip(middle, self.bottom, label, self.colours[i]))
        self.bottom += CHIP

    def sentence(self, text: str) -> None:
        """The words, wrapped; head and tail on coloured ground, text phrases underlined."""
        self.bottom += GAP
        spans = [(i, node["kind"], *node["characters"]) for i, node in enumerate(self.nodes) if node["characters"]]
        rtl = bool(is_right_to_left(text))
        for line in _wrapped(text, [edge for span in spans for edge in span[2:]], FONT_SIZE):
            self.room(4 * FONT_SIZE)
            widths = [text_length(text[start:end], FONT_SIZE) for start, end in line]
            x = WIDTH - MARGIN - sum(widths) if rtl else MARGIN
            placed = []  # (left end, ink, piece)
            for i in visual_order([text[start:end] for start, end in line], rtl):
                placed.append((x, self.ground(x, x + widths[i], line[i], spans), line[i]))
                x += widths[i]
            for x, ink, (start, end) in placed:
                draw_text(self.picture, (x, self.bottom), text[start:end], ink, FONT_SIZE, rtl=rtl)
            self.bottom += 2 * FONT_SIZE

    def ground(self, left: float, right: float, piece: tuple[int, int], spans: list[tuple]) -> tuple[int, int, int]:
        """What lies under a word of the sentence; returns the colour of its letters."""
        depth, ink = FONT_SIZE + 12, INK
        for i, kind, start, end in spans:
            if start >= piece[1] or end <= piece[0]:
                continue
            self.node_ends.setdefault(i, ((left + right) / 2, self.bottom - 8))
            if kind == "text phrase":
                self.draw.line((left, self.bottom + depth, right, self.bottom + depth), NODE_COLOURS[kind], 6)
                depth += 10
            else:
                box, ink = (left - 3, self.bottom - 6, right + 3, self.bottom + FONT_SIZE + 8), PAPER
                self.draw.rounded_rectangle(box, 3, fill=NODE_COLOURS[kind])
        return ink

    def lines(self) -> None:
        """From each hyperedge to its members, so transparent that crossings stay readable; then dots and chips."""
        of_edges = [[of for of in edge["members"] if of["node"] in self.node_ends] for edge in self.edges]
        strengths = [edge["weight"] * member["weight"] for edge in self.edges for member in edge["members"]]
        strongest = max(strengths, default=0) or 1.0
        draw = ImageDraw.Draw(self.picture, "RGBA")
        for edge, members, box, colour in zip(self.edges, of_edges, self.edge_boxes, self.colours):
            for member in members:
                x, y = self.node_ends[member["node"]]
                start = ((box[0] + box[2]) / 2, box[1] if y < box[1] else box[3])
                width = 2 + round(LINE * edge["weight"] * member["weight"] / strongest)
                draw.line((*start, x, y), (*colour, 180), width)
        for i in {member["node"] for members in of_edges for member in members}:
            x, y = self.node_ends[i]
            colour = NODE_COLOURS[self.nodes[i]["kind"]]
            self.draw.ellipse((x - 10, y - 10, x + 10, y + 10), colour, PAPER, 3)
        for box, text, colour in self.chips:
            self.draw.rounded_rectangle(box, 12, fill=colour)
            draw_text(self.picture, (box[0] + 14, (box[1] + box[3]) / 2), text, ink_on(colour), SMALL, middle=True)

    def bars(self) -> None:
        """The weights of the hyperedges that are drawn, and beside them of the heaviest nodes; both sum to 100 %."""
        nodes = sorted(self.nodes, key=lambda node: -node["weight"])[:MAX_BARS]
        edges = [(edge["name"], edge["weight"], colour) for edge, colour in zip(self.edges, self.colours)]
        self.bottom += FONT_SIZE
        self.room((max(len(nodes), len(edges)) + 3) * BAR_STEP)
        ends = [
            self.column(MARGIN, "Hyperedges", edges, self.num_edges),
            self.column(
                WIDTH - MARGIN - COLUMN,
                "Words and image",
                [(_label(node), node["weight"], NODE_COLOURS[node["kind"]]) for node in nodes],
                len(self.nodes),
            ),
        ]
        self.bottom = max(ends)

    def column(self, x: float, title: str, rows: list[tuple[str, float, tuple[int, int, int]]], total: int) -> float:
        """Bars from 0 to 100 % below a title, of (name, weight, colour); returns where it ends."""
        left, right, y = x + COLUMN - BAR - 130, x + COLUMN - 130, self.bottom + BAR_STEP / 2
        draw_text(self.picture, (x, y), title, INK, FONT_SIZE, middle=True)
        for place, percent in ((left, "0%"), (right, "100%")):
            half = text_length(percent, SMALL) / 2
            draw_text(self.picture, (place - half, y), percent, GREY, SMALL, middle=True)
        for name, weight, colour in rows:
            y += BAR_STEP
            draw_text(self.picture, (x, y), _fitted(name, left - x - 24, SMALL), INK, SMALL, middle=True)
            self.draw.rectangle((left, y - 15, right, y + 15), fill=FAINT)
            if (length := round(BAR * min(weight, 1.0))) > 0:
                self.draw.rectangle((left, y - 15, left + length, y + 15), fill=colour)
            draw_text(self.picture, (right + 20, y), f"{weight:.1%}", INK, SMALL, middle=True)
        if total > len(rows):
            y += BAR_STEP
            draw_text(self.picture, (x, y), f"and {total - len(rows)} lighter", GREY, SMALL, middle=True)
        return y + BAR_STEP / 2

    def note(self, text: str) -> None:
        """The last lines: what this picture could not show."""
        self.bottom += FONT_SIZE if text else 0
        for line in _wrapped(text, [], SMALL):
            self.room(2 * SMALL)
            draw_text(self.picture, (MARGIN, self.bottom), text[line[0][0] : line[-1][1]], INK, SMALL)
            self.bottom += 1.4 * SMALL


def _wrapped(text: str, edges: list[int], size: int) -> list[list[tuple[int, int]]]:
    """Where the words and spaces of each line are; they are cut at `edges`, and where they are too long."""
    lines: list[list[tuple[int, int]]] = [[]]
    right = 0.0
    for start, end in pairwise(sorted({*edges, *(piece.start() for piece in PIECE.finditer(text)), len(text)})):
        width = text_length(text[start:end], size)
        if right + width > WIDTH - 2 * MARGIN and lines[-1]:
            lines.append([])
            right = 0.0
        if lines[-1] or not text[start:end].isspace():
            lines[-1].append((start, end))
            right += width
    return [line for line in lines if line]


def _label(node: dict[str, Any]) -> str:
    return "image" if node["kind"] == "image" else f"{node['kind']}: {node['text']}"


def _fitted(text: str, width: float, size: int) -> str:
    """The text, or its beginning and "..." where it is wider."""
    text = whole = _short(text, 200)
    length = len(regex.findall(r"\X", whole))
    while text_length(text, size) > width and length > 4:
        length -= 1
        text = _short(whole, length)
    return text


def _short(text: str, length: int) -> str:
    """On one line, however many the text has."""
    text = " ".join(text.split())
    characters = regex.findall(r"\X", text)
    return text if len(characters) <= length else "".join(characters[: length - 3]) + "..."
