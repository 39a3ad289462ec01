"""Postcards: a small multi-modal relation extraction data set that the package draws itself, second edition.

A postcard is a sentence with 3 to 6 entity pairs and a picture with three stickers, all of them candidates of every
pair, in an order that tells nothing. One of four values decides a relation, together with the type of the pair's tail
("per", "org", "loc"). Where the value is found is drawn for every pair:

- "tail": the tail's name begins with a colour ("Red Haas"), and the SHAPE of the sticker of that colour is the value.
  Neither modality is enough: words name no shape, and the three stickers have three shapes, so that without the
  colour one of them is a guess. `hidden_share` of the stickers show a disk and not their shape.
- "phrase": as "tail", but the colour stands in a phrase after the tail ("Bruno Haas in red"), which is a text phrase;
  `phrase_share` of the pairs, none by default.
- "text_phrase": a word of a note at the sentence's end, far from the pair; the words after the tail name its letter.
- "image_phrase": a word of a phrase about the picture ("Lindau beside a star"), which the sentence does not have.
- "pair": the value of another pair of the post, which has a phrase that this one does not have ("just like Bruno
  Haas"): only what sees a post's other pairs can know it. `pair_share` of the pairs, none by default.
- "same_head": the value of the pair before it, which has an image phrase and the same head ("as well"). At most
  `same_head_share` of the pairs, none by default.

With `head_colours` the heads' names begin with the colour of a sticker, too, which decides nothing: what takes head
and tail together cannot tell which of two stickers is the tail's.

Values, counts, sizes, positions, colours and orders are drawn independently of each other. Every post is a function of
(seed, split, index) alone: a larger split begins with the posts of a smaller one.
"""

import dataclasses
import io
import random
from collections.abc import Iterator
from typing import Annotated, ClassVar

import datasets
from PIL import Image
from pydantic import Field

from datasets_scripts.builders.postcard_pictures import (
    MIN_IMAGE_SIZE,
    POSTCARDS_COLOURS,
    POSTCARDS_SHAPES,
    Sticker,
    draw_picture,
)
from datasets_scripts.builders.postcard_words import TAIL_TYPES, write_sentence
from datasets_scripts.checking import check_config
from datasets_scripts.schema import new_post, post_features, with_hypergraph


__all__ = ["POSTCARDS_RELATIONS", "POSTCARDS_WORDS", "Postcard", "Postcards", "PostcardsConfig", "make_postcard"]

MIN_PAIRS, MAX_PAIRS, NUM_STICKERS = 3, 6, 3
OF_STICKERS = ("tail", "phrase")  # the kinds of evidence that a sticker has

# What a value means, for a head of type "per" and a tail of the type named by the key: a shape, and words of phrases.
_RELATIONS_OF_TAIL = {
    "per": ("None", "/per/per/couple", "/per/per/siblings", "/per/per/peer"),
    "org": ("None", "/per/org/sponsor_of", "/per/org/member_of", "/per/org/founder_of"),
    "loc": ("None", "/per/loc/place_of_birth", "/per/loc/place_of_residence", "/per/loc/place_of_study"),
}
POSTCARDS_RELATIONS = list(dict.fromkeys(name for names in _RELATIONS_OF_TAIL.values() for name in names))
POSTCARDS_WORDS = (
    ("rain", "snow", "fog"),
    ("rose", "lily", "violet"),
    ("drum", "horn", "bell"),
    ("boat", "ship", "ferry"),
)

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=0.25)]


@dataclasses.dataclass
class PostcardsConfig(datasets.BuilderConfig):
    """How many postcards to draw, from which seed, and what decides their pairs."""

    name: str = "postcards"
    version: str = "2.0.0"
    num_train: Count = 1000  # posts
    num_validation: Count = 150
    num_test: Count = 150
    seed: int = 0
    image_size: Annotated[int, Field(ge=MIN_IMAGE_SIZE)] = (
        MIN_IMAGE_SIZE  # pixels a side; a sticker is about a quarter
    )
    max_pairs: Annotated[int, Field(ge=MIN_PAIRS, le=MAX_PAIRS)] = MAX_PAIRS  # of a sentence, from MIN_PAIRS on
    text_phrase_share: Share = 0.15  # of the pairs whose value is in a note; "tail" has what no share takes
    image_phrase_share: Share = 0.15
    phrase_share: Share = 0.0
    pair_share: Share = 0.0
    same_head_share: Share = 0.0
    head_colours: bool = False  # the heads' names begin with a colour, too, which decides nothing
    hidden_share: Annotated[float, Field(ge=0, le=1)] = 0.05  # of the stickers


@dataclasses.dataclass(frozen=True)
class Postcard:
    """A postcard before it becomes a row: its words, its picture and, for checks, what decides which pair."""

    tokens: list[str]
    pairs: list[dict]  # as in the schema, `relation` as a name
    image_phrases: list[str]
    image: Image.Image
    stickers: list[Sticker]  # in the order of the row's boxes
    tail_types: list[str]  # of each pair: "per", "org" or "loc"; every head is a "per"
    kinds: list[str]  # of each pair's evidence
    gold_objects: list[int]  # of each pair the sticker that decides it, -1 for none


def _draw_kinds(rng: random.Random, config: PostcardsConfig, num_pairs: int) -> list[str]:
    """The kind of each pair's evidence; a pair can be like another only where that one has a phrase of its own."""
    shares = {"text_phrase": config.text_phrase_share, "image_phrase": config.image_phrase_share}
    shares |= {"phrase": config.phrase_share, "pair": config.pair_share, "same_head": config.same_head_share}
    kinds = rng.choices([*shares, "tail"], [*shares.values(), 1 - sum(shares.values())], k=num_pairs)
    if "pair" in kinds and not {"text_phrase", "image_phrase"} & set(kinds):
        others = [i for i in range(num_pairs) if i != kinds.index("pair")]
        kinds[rng.choice(others)] = "text_phrase"
    for i, kind in enumerate(kinds):
        if kind == "same_head":  # its source is the pair before it
            kinds[i if i == 0 or kinds[i - 1] == "same_head" else i - 1] = "image_phrase"
    return kinds


def make_postcard(config: PostcardsConfig, split: str, index: int) -> Postcard:
    """Postcard number `index`, from 0, of `split`; it does not depend on how many the split has."""
    rng = random.Random(f"postcards/{config.seed}/{split}/{index}")
    num_pairs = rng.randint(MIN_PAIRS, config.max_pairs)
    tail_types, kinds = rng.choices(TAIL_TYPES, k=num_pairs), _draw_kinds(rng, config, num_pairs)
    looks = list(zip(rng.sample(list(POSTCARDS_COLOURS), NUM_STICKERS), rng.sample(POSTCARDS_SHAPES, NUM_STICKERS)))
    looks = [(*look, rng.random() < config.hidden_share) for look in looks]
    image, stickers = draw_picture(rng, config.image_size, looks)
    sources = [i for i, kind in enumerate(kinds) if kind in ("text_phrase", "image_phrase")]
    values, words, gold_objects = [], [], []
    for kind in kinds:  # uniform over the values, whatever decides
        sticker = rng.randrange(NUM_STICKERS)
        value = POSTCARDS_SHAPES.index(stickers[sticker].shape) if kind in OF_STICKERS else rng.randrange(4)
        colour = stickers[sticker].colour
        named = {"tail": colour, "phrase": colour, "pair": rng.choice(sources or [0])}
        values.append(value)
        words.append(named.get(kind, rng.choice(POSTCARDS_WORDS[value])))
        gold_objects.append(sticker if kind in OF_STICKERS else -1)
    values = [values[word] if kind == "pair" else value for kind, word, value in zip(kinds, words, values)]
    values = [values[i - 1] if kind == "same_head" else value for i, (kind, value) in enumerate(zip(kinds, values))]
    of_heads = [sticker.colour for sticker in stickers] if config.head_colours else []
    tokens, pairs = write_sentence(rng, tail_types, kinds, words, of_heads)
    image_phrases: list[str] = []
    shown = [i for i, kind in enumerate(kinds) if kind == "image_phrase"]
    for i in rng.sample(shown, len(shown)):
        pairs[i]["image_phrases"] = [len(image_phrases)]
        image_phrases.append(f"{' '.join(tokens[slice(*pairs[i]['tail'])])} beside a {words[i]}")
    for pair, tail_type, value in zip(pairs, tail_types, values):
        pair["relation"] = _RELATIONS_OF_TAIL[tail_type][value]
        pair["objects"] = rng.sample(range(NUM_STICKERS), NUM_STICKERS)
        pair["image_phrases"] = pair["image_phrases"] or []
    return Postcard(tokens, pairs, image_phrases, image, stickers, tail_types, kinds, gold_objects)


class Postcards(datasets.GeneratorBasedBuilder):
    """Builder of the Postcards data set; nothing is downloaded."""

    BUILDER_CONFIG_CLASS = PostcardsConfig
    BUILDER_CONFIGS: ClassVar = [PostcardsConfig(description="Drawn postcards, whose pairs need words and picture.")]

    def _info(self) -> datasets.DatasetInfo:
        check_config(self.config)
        return datasets.DatasetInfo(
            description=__doc__,
            features=post_features(POSTCARDS_RELATIONS, images=True, visual_feature_size=None, gold_objects=True),
            license="apache-2.0",
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        sizes = {name: getattr(self.config, f"num_{name}") for name in ("train", "validation", "test")}
        return [datasets.SplitGenerator(name, {"split": name, "num_posts": size}) for name, size in sizes.items()]

    def _generate_examples(self, split: str, num_posts: int) -> Iterator[tuple[int, dict]]:
        for index in range(num_posts):
            postcard, picture = make_postcard(self.config, split, index), io.BytesIO()
            postcard.image.save(picture, format="PNG")
            nodes = {"image": {"bytes": picture.getvalue(), "path": None}, "image_phrases": postcard.image_phrases}
            nodes["boxes"] = [list(sticker.box) for sticker in postcard.stickers]
            nodes["object_labels"] = ["sticker"] * NUM_STICKERS  # neither colour nor shape
            nodes["gold_objects"] = postcard.gold_objects
            name = f"{split}-{index:05d}"
            yield index, with_hypergraph(new_post(name, postcard.tokens, name, postcard.pairs, **nodes))
