"""Postcards: a small multi-modal relation extraction data set that the package draws itself.

A postcard is a sentence with 1 to 6 entity pairs and a picture with 4 to 8 stickers. The sentence says which sticker
belongs to which pair by naming its colour right after the pair's tail ("Anna Keller poses beside Bruno Haas in red");
the SHAPE of that sticker, read with the two entity types, decides the relation. Neither modality is enough:

- the text names a colour, never a shape, and names are drawn from large lists, so that within one combination of
  entity types every relation is equally likely whatever the sentence says;
- the picture shows every pair's sticker and some that belong to nobody, so words must be tied to objects. Each pair
  ranks the stickers by how much of its colour they show (`rank_objects`, the stand-in for the paper's selector).

Counts, sizes, positions and the order of the boxes are drawn independently of the labels. A guess that names the most
frequent shape of the picture is right for about half of the pairs. Every post is a function of (seed, split, index)
alone: a larger split begins with the posts of a smaller one.
"""

import dataclasses
import io
import math
import random
from collections.abc import Iterator
from typing import Annotated, ClassVar

import datasets
import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from datasets_scripts.checking import check_config
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph


__all__ = ["POSTCARDS_COLOURS", "POSTCARDS_RELATIONS", "POSTCARDS_SHAPES", "Postcard", "Postcards"]
__all__ += ["PostcardsConfig", "Sticker", "make_postcard", "rank_objects"]

MIN_STICKERS, MAX_STICKERS, MAX_PAIRS, MAX_TAILS_OF_A_HEAD = 4, 8, 6, 3
NUM_PAIRS_WEIGHTS = (35, 25, 15, 10, 8, 7)  # of 1, 2, ... MAX_PAIRS pairs
GRID = 3  # stickers sit in different cells of a GRID x GRID grid, so that they cannot overlap
MIN_IMAGE_SIZE = 96
SAME_COLOUR = 40  # RGB distance below which a pixel shows a named colour

POSTCARDS_COLOURS = {
    "red": (215, 25, 30),
    "green": (20, 150, 55),
    "blue": (30, 65, 215),
    "yellow": (250, 215, 20),
    "purple": (140, 40, 165),
    "orange": (250, 130, 15),
    "turquoise": (40, 200, 205),
    "black": (25, 25, 28),
}

# What a sticker's shape means, for a head of type "per" and a tail of the type named by the key.
POSTCARDS_SHAPES = ("square", "heart", "ring", "star")
_RELATIONS_OF_TAIL = {
    "per": ("None", "/per/per/couple", "/per/per/siblings", "/per/per/peer"),
    "org": ("None", "/per/org/sponsor_of", "/per/org/member_of", "/per/org/founder_of"),
    "loc": ("None", "/per/loc/place_of_birth", "/per/loc/place_of_residence", "/per/loc/place_of_study"),
}
POSTCARDS_RELATIONS = list(dict.fromkeys(name for names in _RELATIONS_OF_TAIL.values() for name in names))

_FIRST_NAMES = """
    Anna Bruno Carla Dario Edda Farid Greta Hanno Ilse Jonas Katja Leo Marta Nils Olga Pavel Rosa Selim Tilda Ugo Vera
    Wanda Yusuf Zora Amina Boris Chen Dora Emil Freya Goran Hilde Ivan Jana Karim Lena Milan Nora Otto Petra Quentin
    Ruth Sven Tara Ulla Viktor Wim Xenia Yara Zeno
""".split()
_LAST_NAMES = """
    Keller Haas Voss Adler Brandt Conti Duarte Eriksen Fontana Grimm Holm Ibsen Jansen Kovacs Lindqvist Moreau Novak
    Okafor Pereira Quist Rossi Sato Tanaka Urban Vidal Weber Yilmaz Zeller Abbas Bauer Costa Dubois Egger Fischer
    Gruber Huber Ito Jovanovic Kramer Lang Meyer Nagel Olsen Petit Ricci Schmid Torres Ullman Vogel Winter
""".split()
_ORGANISATION_STEMS = """
    Nordwind Halden Solberg Astera Boreal Cobalt Delphin Evertree Falkon Granit Helios Indigo Jasper Kestrel Lumen
    Meridian Nimbus Orion Polaris Quarz Rivage Saffran Tellus Umbra Vesper Westbrook Xylon Zephyr Amberly Bluefjord
""".split()
_ORGANISATION_KINDS = "Works Museum Orchestra Bank Institute Press Rovers Foundation Airlines Brewery".split()
_PLACE_STARTS = "Lin Mar Ober Sal Tor Wal Brem Cal Dor Es Fal Gren Har Ister Kal Lom Mon Nor Pel Ros".split()
_PLACE_ENDS = "dau burg stad mouth haven field berg brook ford minster".split()

_OPENINGS = ("", "Greetings !", "Look :", "On Sunday ,", "Dear all ,", "What a day !", "Postcard from the trip :")
_CLOSINGS = (".", "!", ", more soon .", ", see you soon !", "... wish you were here .")
_VERBS = ("poses", "waves", "laughs", "sings", "stands", "drinks coffee", "eats cake", "smiles")
_CLAUSE_LINKS = (", while", ";", ", and")
_TAIL_LINKS = ("and", ",", "and also")
_CONNECTORS = {
    "per": ("beside", "next to", "together with", "across from", "behind"),
    "org": ("in front of the stand of", "at the booth of", "under the roof of", "outside"),
    "loc": ("near", "on the way to", "at the station of", "on the road to"),
}
_COLOUR_PHRASES = {
    "per": ("in {}", "wearing {}", "dressed in {}", "with the {} scarf"),
    "org": ("under its {} banner", "with the {} logo", "in its {} colours"),
    "loc": ("marked in {}", "with the {} pin", "on the {} sign"),
}


Count = Annotated[int, Field(ge=1)]


@dataclasses.dataclass
class PostcardsConfig(datasets.BuilderConfig):
    """How many postcards to draw, from which seed, and how large."""

    name: str = "postcards"
    version: str = "1.0.0"
    num_train: Count = 600  # posts
    num_validation: Count = 150
    num_test: Count = 150
    seed: int = 0
    image_size: Annotated[int, Field(ge=MIN_IMAGE_SIZE)] = 128  # pixels a side; a sticker is about a quarter of it
    max_pairs: Annotated[int, Field(ge=1, le=MAX_PAIRS)] = MAX_PAIRS  # of a sentence: 1 to this many, mostly few
    text_phrases: bool = True  # whether a pair proposes its colour phrase ("wearing red") as a text phrase


@dataclasses.dataclass(frozen=True)
class Sticker:
    """One object of the picture. `box` is xyxy in pixels; `pair` is the index of its pair, None for a distractor."""

    colour: str
    shape: str
    box: tuple[int, int, int, int]
    pair: int | None


@dataclasses.dataclass(frozen=True)
class Postcard:
    """A postcard before it becomes a row: its words, its picture and, for checks, which sticker decides which pair."""

    tokens: list[str]
    pairs: list[dict]  # as in the schema, `relation` as a name
    tail_types: list[str]  # of each pair: "per", "org" or "loc"; every head is a "per"
    image: Image.Image
    stickers: list[Sticker]  # in the order of the row's boxes


def _draw_names(rng: random.Random, tail_types: list[str], num_heads: int) -> tuple[list[str], list[str]]:
    """Distinct names for the heads (all people) and for the tails; no name tells anything about a relation."""
    num_tails = len(tail_types)
    first, last = (rng.sample(names, num_heads + num_tails) for names in (_FIRST_NAMES, _LAST_NAMES))
    stems, starts = (rng.sample(names, num_tails) for names in (_ORGANISATION_STEMS, _PLACE_STARTS))
    people = [f"{a} {b}" for a, b in zip(first, last)]
    tails = []
    for person, stem, start, tail_type in zip(people[num_heads:], stems, starts, tail_types):
        names = {"per": person, "org": f"{stem} {rng.choice(_ORGANISATION_KINDS)}"}
        names["loc"] = start + rng.choice(_PLACE_ENDS)
        tails.append(names[tail_type])
    return people[:num_heads], tails


def _write_sentence(rng: random.Random, tail_types: list[str], colours: list[str]) -> tuple[list[str], list[dict]]:
    """The sentence and its pairs, without relations: these are not known here, so that no word can depend on them."""
    sizes: list[int] = []  # how many tails each head gets: pairs that share a head stand in one clause
    for _ in tail_types:
        if sizes and sizes[-1] < MAX_TAILS_OF_A_HEAD and rng.random() < 0.5:
            sizes[-1] += 1
        else:
            sizes.append(1)
    heads, tails = _draw_names(rng, tail_types, len(sizes))
    tokens: list[str] = []
    pairs: list[dict] = []

    def say(words: str) -> list[int]:
        start = len(tokens)
        tokens.extend(words.split())
        return [start, len(tokens)]

    say(rng.choice(_OPENINGS))
    for clause, size in enumerate(sizes):
        if clause > 0:
            say(rng.choice(_CLAUSE_LINKS))
        head = say(heads[clause])
        say(rng.choice(_VERBS))
        for position in range(size):
            if position > 0:
                say(rng.choice(_TAIL_LINKS))
            index = len(pairs)
            say(rng.choice(_CONNECTORS[tail_types[index]]))
            tail = say(tails[index])
            phrase = say(rng.choice(_COLOUR_PHRASES[tail_types[index]]).format(colours[index]))
            pairs.append(new_pair(head, tail, text_phrases=[phrase]))
    say(rng.choice(_CLOSINGS))
    return tokens, pairs


def _shape_mask(shape: str, side: int) -> Image.Image:
    """The shape in white on black, (side, side) pixels, smoothed by drawing it four times as large."""
    large = side * 4
    mask, centre = Image.new("L", (large, large), 0), large / 2
    draw = ImageDraw.Draw(mask)
    if shape == "square":
        draw.rectangle((0.06 * large, 0.06 * large, 0.94 * large, 0.94 * large), fill=255)
    elif shape == "ring":
        draw.ellipse((0, 0, large - 1, large - 1), fill=255)
        draw.ellipse((0.28 * large, 0.28 * large, 0.72 * large, 0.72 * large), fill=0)
    elif shape == "star":
        radii = [centre if corner % 2 == 0 else 0.42 * centre for corner in range(10)]
        angles = [corner * math.pi / 5 for corner in range(10)]
        draw.polygon([(centre + r * math.sin(a), centre - r * math.cos(a)) for r, a in zip(radii, angles)], fill=255)
    elif shape == "heart":
        turns = [2 * math.pi * step / 80 for step in range(80)]
        across = [16 * math.sin(t) ** 3 for t in turns]
        up = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
        draw.polygon([(centre * (1 + x / 17), centre * (1 - (y + 2.5) / 15)) for x, y in zip(across, up)], fill=255)
    return mask.resize((side, side), Image.Resampling.LANCZOS)


def _paste_stickers(
    rng: random.Random, image_size: int, looks: list[tuple[str, str, int | None]]
) -> tuple[Image.Image, list[Sticker]]:
    """Draws (colour, shape, pair) `looks` on pale, grained paper, each in a random cell of the grid."""
    noise = np.random.default_rng(rng.getrandbits(64))
    tone = np.array([226, 217, 198]) + noise.integers(-12, 13, size=3)
    grain = noise.normal(0, 4, size=(image_size, image_size, 1))
    image = Image.fromarray(np.clip(tone + grain, 0, 255).astype(np.uint8))
    stickers, cell = [], image_size / GRID
    margin = round(0.05 * cell)  # between the shape and its box
    for (colour, shape, pair), place in zip(looks, rng.sample(range(GRID**2), len(looks)), strict=True):
        side = rng.randint(round(0.66 * cell), round(0.80 * cell))
        slack = int(cell) - side - 2 * margin
        left = math.ceil(place % GRID * cell) + rng.randint(0, max(0, slack - 1))
        top = math.ceil(place // GRID * cell) + rng.randint(0, max(0, slack - 1))
        shade = tuple(min(255, max(0, channel + rng.randint(-10, 10))) for channel in POSTCARDS_COLOURS[colour])
        image.paste(shade, (left + margin, top + margin), _shape_mask(shape, side))
        stickers.append(Sticker(colour, shape, (left, top, left + side + 2 * margin, top + side + 2 * margin), pair))
    return image, stickers


def rank_objects(image: Image.Image, boxes: list[tuple[int, int, int, int]], colour: str) -> list[int]:
    """Indices of the boxes, pixels xyxy, those that show most of the named colour first (ties in the boxes' order).

    It stands in for the paper's object selector (section 4.1): it reads pixels and the pair's words, never a label.
    """
    pixels = np.asarray(image, dtype=np.int64)
    near = np.square(pixels - np.array(POSTCARDS_COLOURS[colour])).sum(axis=-1) < SAME_COLOUR**2  # (height, width)
    shown = [int(near[top:bottom, left:right].sum()) for left, top, right, bottom in boxes]
    return sorted(range(len(boxes)), key=lambda box: -shown[box])


def make_postcard(config: PostcardsConfig, split: str, index: int) -> Postcard:
    """Postcard number `index`, from 0, of `split`; it does not depend on how many the split has."""
    rng = random.Random(f"postcards/{config.seed}/{split}/{index}")
    (num_pairs,) = rng.choices(range(1, config.max_pairs + 1), weights=NUM_PAIRS_WEIGHTS[: config.max_pairs])
    num_stickers = rng.randint(max(MIN_STICKERS, num_pairs + 1), MAX_STICKERS)  # drawn before any shape
    tail_types = rng.choices(list(_RELATIONS_OF_TAIL), k=num_pairs)
    colours = rng.sample(list(POSTCARDS_COLOURS), num_stickers)  # all different; the first `num_pairs` are named
    tokens, pairs = _write_sentence(rng, tail_types, colours[:num_pairs])
    shapes = rng.choices(POSTCARDS_SHAPES, k=num_stickers)  # the only thing that decides, and it is drawn uniformly
    for pair, tail_type, shape in zip(pairs, tail_types, shapes):
        pair["relation"] = _RELATIONS_OF_TAIL[tail_type][POSTCARDS_SHAPES.index(shape)]
        if not config.text_phrases:
            pair["text_phrases"] = []
    owners = list(range(num_pairs)) + [None] * (num_stickers - num_pairs)
    looks = list(zip(colours, shapes, owners, strict=True))
    rng.shuffle(looks)
    image, stickers = _paste_stickers(rng, config.image_size, looks)
    for pair, colour in zip(pairs, colours):
        pair["objects"] = rank_objects(image, [sticker.box for sticker in stickers], colour)
    return Postcard(tokens=tokens, pairs=pairs, tail_types=tail_types, image=image, stickers=stickers)


class Postcards(datasets.GeneratorBasedBuilder):
    """Builder of the Postcards data set; nothing is downloaded."""

    BUILDER_CONFIG_CLASS = PostcardsConfig
    BUILDER_CONFIGS: ClassVar = [PostcardsConfig(description="Drawn postcards: the picture decides every relation.")]

    def _info(self) -> datasets.DatasetInfo:
        check_config(self.config)
        return datasets.DatasetInfo(
            description=__doc__,
            features=post_features(POSTCARDS_RELATIONS, images=True, visual_feature_size=None),
            license="apache-2.0",
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        sizes = {name: getattr(self.config, f"num_{name}") for name in ("train", "validation", "test")}
        return [datasets.SplitGenerator(name, {"split": name, "num_posts": size}) for name, size in sizes.items()]

    def _generate_examples(self, split: str, num_posts: int) -> Iterator[tuple[int, dict]]:
        for index in range(num_posts):
            postcard, picture = make_postcard(self.config, split, index), io.BytesIO()
            postcard.image.save(picture, format="PNG")
            nodes = {"image": {"bytes": picture.getvalue(), "path": None}}
            nodes["boxes"] = [list(sticker.box) for sticker in postcard.stickers]
            nodes["object_labels"] = ["sticker"] * len(postcard.stickers)  # neither colour nor shape
            name = f"{split}-{index:05d}"
            yield index, with_hypergraph(new_post(name, postcard.tokens, name, postcard.pairs, **nodes))
