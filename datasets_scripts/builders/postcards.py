"""Postcards: a small multi-modal relation extraction data set that the package draws itself.

A postcard is a sentence with 1 to 6 entity pairs and a picture with 4 to 8 stickers. The sentence says which sticker
belongs to which pair by naming its colour right after the pair's tail ("Anna Keller poses beside Bruno Haas in red");
the SHAPE of that sticker, read with the two entity types, decides the relation. Neither modality is enough:

- the text names a colour, never a shape, and names are drawn from large lists: within one combination of entity types
  every relation is equally likely whatever the sentence says, so the best a text-only model can do is guess;
- the picture shows every pair's sticker and some that belong to nobody, so words must be tied to objects: each pair
  ranks the stickers by how much of its colour they show (`rank_objects`, the stand-in for the paper's selector), and
  how many of them the model keeps (`num_objects`) sets how much of the tying is left to its attention.

Counts, sizes, positions and the order of the boxes are drawn independently of the labels. A guess that names the most
frequent shape of the picture and never finds the right sticker is right for about half of the pairs. Every post is a
function of (seed, split, index) alone: a larger split begins with the posts of a smaller one.
"""

import dataclasses
import io
import math
import random
from collections.abc import Iterator
from typing import ClassVar

import datasets
import numpy as np
from PIL import Image, ImageDraw

from datasets_scripts.schema import post_features


__all__ = [
    "POSTCARDS_COLOURS",
    "POSTCARDS_RELATIONS",
    "POSTCARDS_SHAPES",
    "Postcard",
    "Postcards",
    "PostcardsConfig",
    "Sticker",
    "make_postcard",
    "rank_objects",
]

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

# Shape -> relation, for a head of type "per" and a tail of the type named by the outer key. A square means nothing.
_RELATION_OF_SHAPE = {
    "per": {"square": "None", "heart": "/per/per/couple", "ring": "/per/per/siblings", "star": "/per/per/peer"},
    "org": {
        "square": "None",
        "heart": "/per/org/sponsor_of",
        "ring": "/per/org/member_of",
        "star": "/per/org/founder_of",
    },
    "loc": {
        "square": "None",
        "heart": "/per/loc/place_of_birth",
        "ring": "/per/loc/place_of_residence",
        "star": "/per/loc/place_of_study",
    },
}
POSTCARDS_SHAPES = tuple(_RELATION_OF_SHAPE["per"])
POSTCARDS_RELATIONS = list(dict.fromkeys(name for table in _RELATION_OF_SHAPE.values() for name in table.values()))


def _listed(words: str) -> list[str]:
    return words.split()


_FIRST_NAMES = _listed(
    """Anna Bruno Carla Dario Edda Farid Greta Hanno Ilse Jonas Katja Leo Marta Nils Olga Pavel Rosa Selim
    Tilda Ugo Vera Wanda Yusuf Zora Amina Boris Chen Dora Emil Freya Goran Hilde Ivan Jana Karim Lena Milan Nora Otto
    Petra Quentin Ruth Sven Tara Ulla Viktor Wim Xenia Yara Zeno"""
)
_LAST_NAMES = _listed(
    """Keller Haas Voss Adler Brandt Conti Duarte Eriksen Fontana Grimm Holm Ibsen Jansen Kovacs Lindqvist Moreau
    Novak Okafor Pereira Quist Rossi Sato Tanaka Urban Vidal Weber Yilmaz Zeller Abbas Bauer Costa Dubois Egger Fischer
    Gruber Huber Ito Jovanovic Kramer Lang Meyer Nagel Olsen Petit Ricci Schmid Torres Ullman Vogel Winter"""
)
_ORGANISATION_STEMS = _listed(
    """Nordwind Halden Solberg Astera Boreal Cobalt Delphin Evertree Falkon Granit Helios Indigo Jasper
    Kestrel Lumen Meridian Nimbus Orion Polaris Quarz Rivage Saffran Tellus Umbra Vesper Westbrook Xylon Zephyr Amberly
    Bluefjord"""
)
_ORGANISATION_KINDS = _listed("Works Museum Orchestra Bank Institute Press Rovers Foundation Airlines Brewery")
_PLACE_STARTS = _listed("Lin Mar Ober Sal Tor Wal Brem Cal Dor Es Fal Gren Har Ister Kal Lom Mon Nor Pel Ros")
_PLACE_ENDS = _listed("dau burg stad mouth haven field berg brook ford minster")

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


@dataclasses.dataclass
class PostcardsConfig(datasets.BuilderConfig):
    """How many postcards to draw, from which seed, and how large.

    Raises:
        ValueError: a value of another type, a number of posts below 1, or an image too small for the stickers.
    """

    name: str = "postcards"
    version: datasets.Version = dataclasses.field(default_factory=lambda: datasets.Version("1.0.0"))
    num_train: int = 600  # posts
    num_validation: int = 150
    num_test: int = 150
    seed: int = 0
    image_size: int = 128  # pixels a side; a sticker is about a quarter of it
    max_pairs: int = MAX_PAIRS  # pairs of a sentence: 1 to this many, few more often than many
    text_phrases: bool = True  # whether a pair proposes its colour phrase ("wearing red") as a text phrase

    def __post_init__(self):
        super().__post_init__()
        self.check()

    def check(self) -> None:
        """ValueError on a value no build can use; the builder calls it, since `datasets` sets fields one by one."""
        for field in ("num_train", "num_validation", "num_test", "image_size", "max_pairs"):
            if type(getattr(self, field)) is not int:
                raise ValueError(f"{field} must be an int, received {getattr(self, field)!r}.")
        if type(self.text_phrases) is not bool:
            raise ValueError(f"text_phrases must be True or False, received {self.text_phrases!r}.")
        for field in ("num_train", "num_validation", "num_test"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1 post, received {getattr(self, field)}.")
        if self.image_size < MIN_IMAGE_SIZE:
            raise ValueError(
                f"image_size must be at least {MIN_IMAGE_SIZE} pixels, or shapes blur, received {self.image_size}."
            )
        if not 1 <= self.max_pairs <= MAX_PAIRS:
            raise ValueError(f"max_pairs must be between 1 and {MAX_PAIRS}, received {self.max_pairs}.")


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


class _Words:
    """Tokens under construction: `say` appends words and returns their [start, end) span."""

    def __init__(self):
        self.tokens: list[str] = []

    def say(self, words: str) -> list[int]:
        start = len(self.tokens)
        self.tokens += words.split()
        return [start, len(self.tokens)]


def _draw_names(rng: random.Random, tail_types: list[str], num_heads: int) -> tuple[list[str], list[str]]:
    """Distinct names for the heads (all people) and for the tails; no name tells anything about a relation."""
    first, last = (
        rng.sample(_FIRST_NAMES, num_heads + len(tail_types)),
        rng.sample(_LAST_NAMES, num_heads + len(tail_types)),
    )
    stems, starts = (rng.sample(_ORGANISATION_STEMS, len(tail_types)), rng.sample(_PLACE_STARTS, len(tail_types)))
    people = [f"{a} {b}" for a, b in zip(first, last, strict=True)]
    tails = []
    for index, tail_type in enumerate(tail_types):
        name_of_type = {
            "per": people[num_heads + index],
            "org": f"{stems[index]} {rng.choice(_ORGANISATION_KINDS)}",
            "loc": starts[index] + rng.choice(_PLACE_ENDS),
        }
        tails.append(name_of_type[tail_type])
    return people[:num_heads], tails


def _tails_of_heads(rng: random.Random, num_pairs: int) -> list[int]:
    """How many tails each head gets, in sentence order: pairs that share a head stand in one clause."""
    sizes: list[int] = []
    for _ in range(num_pairs):
        if sizes and sizes[-1] < MAX_TAILS_OF_A_HEAD and rng.random() < 0.5:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes


def _write_sentence(rng: random.Random, tail_types: list[str], colours: list[str]) -> tuple[list[str], list[dict]]:
    """The sentence and its pairs, without relations: these are not known here, so that no word can depend on them."""
    sizes = _tails_of_heads(rng, len(tail_types))
    heads, tails = _draw_names(rng, tail_types, len(sizes))
    words, pairs = _Words(), []
    words.say(rng.choice(_OPENINGS))
    for clause, size in enumerate(sizes):
        if clause > 0:
            words.say(rng.choice(_CLAUSE_LINKS))
        head = words.say(heads[clause])
        words.say(rng.choice(_VERBS))
        for position in range(size):
            if position > 0:
                words.say(rng.choice(_TAIL_LINKS))
            index = len(pairs)
            words.say(rng.choice(_CONNECTORS[tail_types[index]]))
            tail = words.say(tails[index])
            phrase = words.say(rng.choice(_COLOUR_PHRASES[tail_types[index]]).format(colours[index]))
            pair = {"head": head, "tail": tail, "tail_object": -1}
            pairs.append(pair | {"text_phrases": [phrase], "image_phrases": [], "objects": []})
    words.say(rng.choice(_CLOSINGS))
    return words.tokens, pairs


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
        draw.polygon(
            [(centre + r * math.sin(a), centre - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)],
            fill=255,
        )
    elif shape == "heart":
        turns = [2 * math.pi * step / 80 for step in range(80)]
        across = [16 * math.sin(t) ** 3 for t in turns]
        up = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
        draw.polygon(
            [(centre * (1 + x / 17), centre * (1 - (y + 2.5) / 15)) for x, y in zip(across, up, strict=True)], fill=255
        )
    return mask.resize((side, side), Image.Resampling.LANCZOS)


def _paper(rng: random.Random, image_size: int) -> Image.Image:
    """A pale, slightly grained background, a little different for every postcard."""
    noise = np.random.default_rng(rng.getrandbits(64))
    tone = np.array([226, 217, 198]) + noise.integers(-12, 13, size=3)
    grain = noise.normal(0, 4, size=(image_size, image_size, 1))
    return Image.fromarray(np.clip(tone + grain, 0, 255).astype(np.uint8))


def _paste_stickers(
    rng: random.Random, image_size: int, looks: list[tuple[str, str, int | None]]
) -> tuple[Image.Image, list[Sticker]]:
    """Draws (colour, shape, pair) `looks` on paper, each in a random cell of the grid, size and place jittered."""
    image, stickers, cell = _paper(rng, image_size), [], image_size / GRID
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
    """Indices of the boxes, those that show most of the named colour first (ties in the boxes' order).

    The stand-in for the paper's object selector (section 4.1: the k objects most relevant to the pair): it reads the
    pixels and the pair's own words, never a label.

    Args:
        image: RGB. boxes: pixels, xyxy. colour: a key of POSTCARDS_COLOURS.
    """
    pixels = np.asarray(image, dtype=np.int64)
    near = np.square(pixels - np.array(POSTCARDS_COLOURS[colour])).sum(axis=-1) < SAME_COLOUR**2  # (height, width)
    shown = [int(near[top:bottom, left:right].sum()) for left, top, right, bottom in boxes]
    return sorted(range(len(boxes)), key=lambda box: -shown[box])


def make_postcard(config: PostcardsConfig, split: str, index: int) -> Postcard:
    """Postcard number `index` of `split`, a function of (config.seed, split, index) and not of the split's size.

    Args:
        config: its `seed`, `image_size`, `max_pairs` and `text_phrases` are read.
        split: "train", "validation" or "test". index: from 0.
    """
    rng = random.Random(f"postcards/{config.seed}/{split}/{index}")
    (num_pairs,) = rng.choices(range(1, config.max_pairs + 1), weights=NUM_PAIRS_WEIGHTS[: config.max_pairs])
    num_stickers = rng.randint(max(MIN_STICKERS, num_pairs + 1), MAX_STICKERS)  # drawn before any shape
    tail_types = rng.choices(list(_RELATION_OF_SHAPE), k=num_pairs)
    colours = rng.sample(list(POSTCARDS_COLOURS), num_stickers)  # all different; the first `num_pairs` are named
    tokens, pairs = _write_sentence(rng, tail_types, colours[:num_pairs])
    shapes = rng.choices(POSTCARDS_SHAPES, k=num_stickers)  # the only thing that decides, and it is drawn uniformly
    for pair, tail_type, shape in zip(pairs, tail_types, shapes, strict=False):
        pair["relation"] = _RELATION_OF_SHAPE[tail_type][shape]
        if not config.text_phrases:
            pair["text_phrases"] = []
    owners = list(range(num_pairs)) + [None] * (num_stickers - num_pairs)
    looks = list(zip(colours, shapes, owners, strict=True))
    rng.shuffle(looks)
    image, stickers = _paste_stickers(rng, config.image_size, looks)
    for pair, colour in zip(pairs, colours, strict=False):
        pair["objects"] = rank_objects(image, [sticker.box for sticker in stickers], colour)
    return Postcard(tokens=tokens, pairs=pairs, tail_types=tail_types, image=image, stickers=stickers)


def _png(image: Image.Image) -> dict[str, bytes | None]:
    """The image as `datasets.Image` stores it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


class Postcards(datasets.GeneratorBasedBuilder):
    """Builder of the Postcards data set; nothing is downloaded.

    Example:
        >>> builder = Postcards(cache_dir="cache", num_train=10, num_validation=5, num_test=5)
        >>> builder.download_and_prepare()
        >>> builder.as_dataset("train")[0]["tokens"][:2]
    """

    BUILDER_CONFIG_CLASS = PostcardsConfig
    BUILDER_CONFIGS: ClassVar[list[PostcardsConfig]] = [
        PostcardsConfig(description="Drawn postcards: the picture decides every relation.")
    ]

    def _info(self) -> datasets.DatasetInfo:
        self.config.check()
        return datasets.DatasetInfo(
            description=__doc__,
            features=post_features(POSTCARDS_RELATIONS, images=True, visual_feature_size=None),
            license="apache-2.0",
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        sizes = {
            datasets.Split.TRAIN: self.config.num_train,
            datasets.Split.VALIDATION: self.config.num_validation,
            datasets.Split.TEST: self.config.num_test,
        }
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": str(split), "num_posts": num_posts})
            for split, num_posts in sizes.items()
        ]

    def _generate_examples(self, split: str, num_posts: int) -> Iterator[tuple[int, dict]]:
        for index in range(num_posts):
            postcard = make_postcard(self.config, split, index)
            identifier = f"{split}-{index:05d}"
            yield (
                index,
                {
                    "id": identifier,
                    "tokens": postcard.tokens,
                    "image_id": identifier,
                    "image": _png(postcard.image),
                    "boxes": [list(sticker.box) for sticker in postcard.stickers],
                    "object_labels": ["sticker"] * len(postcard.stickers),  # neither colour nor shape
                    "caption": None,
                    "image_phrases": [],
                    "pairs": postcard.pairs,
                },
            )
