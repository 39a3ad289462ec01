"""Postcards: seeded, well-formed, undecidable from text and from counts, decided by the named sticker alone."""

import collections

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2_contingency
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from datasets_scripts.builders.building import build
from datasets_scripts.builders.postcards import (
    POSTCARDS_COLOURS,
    POSTCARDS_RELATIONS,
    POSTCARDS_SHAPES,
    Postcards,
    PostcardsConfig,
    make_postcard,
    rank_objects,
)
from datasets_scripts.schema import new_post
from modeling_vmhan.hyperedges import hypergraph_of


# Restated here on purpose: what each shape means for each type of tail.
LOC = "/per/loc/place_of_"
MEANING = {
    "per": dict(square="None", heart="/per/per/couple", ring="/per/per/siblings", star="/per/per/peer"),
    "org": dict(square="None", heart="/per/org/sponsor_of", ring="/per/org/member_of", star="/per/org/founder_of"),
    "loc": dict(square="None", heart=f"{LOC}birth", ring=f"{LOC}residence", star=f"{LOC}study"),
}
NUM_TRAIN, NUM_TEST = 500, 200


def draw(split, number, **fields):
    return [make_postcard(PostcardsConfig(**fields), split, index) for index in range(number)]


@pytest.fixture(scope="module")
def train():
    return draw("train", NUM_TRAIN)


@pytest.fixture(scope="module")
def test():
    return draw("test", NUM_TEST)


def words(postcard, span):
    return " ".join(postcard.tokens[span[0] : span[1]])


def named_colour(postcard, pair):
    """The colour the sentence gives to a pair: the one colour word in the three to five words after its tail."""
    after = postcard.tokens[pair["tail"][1] : pair["text_phrases"][0][1]]
    (colour,) = [word for word in after if word in POSTCARDS_COLOURS]
    return colour


def relations(postcards):
    return [pair["relation"] for postcard in postcards for pair in postcard.pairs]


def test_labels_are_about_equally_frequent(train):
    counts = collections.Counter(relations(train))
    assert set(counts) == set(POSTCARDS_RELATIONS) == {name for table in MEANING.values() for name in table.values()}
    assert 0.22 < counts[POSTCARDS_RELATIONS[0]] / counts.total() < 0.30 and POSTCARDS_RELATIONS[0] == "None"
    assert all(count / counts.total() > 0.05 for count in counts.values())


def test_a_seed_draws_the_same_postcards_and_another_seed_or_split_others(train, test):
    other_seed, again = draw("train", 50, seed=1), draw("train", 5)
    for one, same in zip(train, again):
        assert (one.tokens, one.pairs, one.stickers) == (same.tokens, same.pairs, same.stickers)
        assert one.image.tobytes() == same.image.tobytes()
    for seen in (lambda postcard: tuple(postcard.tokens), lambda postcard: postcard.image.tobytes()):
        parts = [set(map(seen, part)) for part in (train, test, other_seed)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len({postcard.image.tobytes() for postcard in train}) == NUM_TRAIN


@pytest.mark.parametrize("image_size", [96, 100, 128, 224])
def test_boxes_are_inside_and_apart(image_size):
    for postcard in draw("train", 30, image_size=image_size):
        assert postcard.image.size == (image_size, image_size)
        boxes = [sticker.box for sticker in postcard.stickers]
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            assert 0 <= x1 < x2 <= image_size and 0 <= y1 < y2 <= image_size and x2 - x1 == y2 - y1
            for a1, b1, a2, b2 in boxes[:number]:
                assert x2 <= a1 or a2 <= x1 or y2 <= b1 or b2 <= y1


def test_every_pair_has_its_own_sticker_of_the_colour_it_names(train):
    for postcard in train:
        assert 4 <= len(postcard.stickers) <= 8 and 1 <= len(postcard.pairs) <= 6
        owners = [sticker.pair for sticker in postcard.stickers if sticker.pair is not None]
        assert sorted(owners) == list(range(len(postcard.pairs)))
        for number, pair in enumerate(postcard.pairs):
            of_colour = [sticker for sticker in postcard.stickers if sticker.colour == named_colour(postcard, pair)]
            assert [sticker.pair for sticker in of_colour] == [number]
        assert len(postcard.stickers) > len(owners)  # at least one distractor


def test_spans(train):
    for postcard in train:
        heads = {tuple(pair["head"]) for pair in postcard.pairs}
        spans = [pair["tail"] for pair in postcard.pairs] + list(heads)
        assert all(0 <= start < end <= len(postcard.tokens) for start, end in spans)
        assert len({words(postcard, span) for span in spans}) == len(spans)  # no name stands for two entities
        for pair, tail_type in zip(postcard.pairs, postcard.tail_types, strict=True):
            assert len(words(postcard, pair["head"]).split()) == 2
            assert len(words(postcard, pair["tail"]).split()) == (1 if tail_type == "loc" else 2)
            assert [start for start, _ in pair["text_phrases"]] == [pair["tail"][1]]  # right after the tail

    assert any(len({tuple(pair["head"]) for pair in postcard.pairs}) < len(postcard.pairs) for postcard in train)


def test_no_word_names_a_shape_or_a_relation(train):
    vocabulary = {word.lower() for postcard in train for word in postcard.tokens}
    named = {part for name in POSTCARDS_RELATIONS for part in name.lower().split("/")}
    assert not vocabulary & {*POSTCARDS_SHAPES, *named}


def near(image, colour):
    """(height, width): whether a pixel shows this colour."""
    return np.abs(np.asarray(image, dtype=int) - np.array(POSTCARDS_COLOURS[colour])).max(axis=-1) <= 45


def shape_by_pixels(mask):
    """Names a shape from how its pixels fill their own bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not mask[mask.shape[0] // 2, mask.shape[1] // 2]:
        return "ring"
    return "square" if mask.mean() > 0.9 else "heart" if mask.mean() > 0.5 else "star"


def test_an_oracle_that_reads_the_picture_decides_every_pair(test):
    for postcard in test:
        crops = [postcard.image.crop(sticker.box) for sticker in postcard.stickers]
        for pair, tail_type in zip(postcard.pairs, postcard.tail_types, strict=True):
            masks = [near(crop, named_colour(postcard, pair)) for crop in crops]
            assert pair["relation"] == MEANING[tail_type][shape_by_pixels(max(masks, key=np.sum))]


def bag_of_words(postcards):
    """Sentence, names, type, colour and colour phrase of every pair, as words."""
    texts = []
    for postcard in postcards:
        for pair, tail_type in zip(postcard.pairs, postcard.tail_types, strict=True):
            spans = {"head": pair["head"], "tail": pair["tail"], "phrase": pair["text_phrases"][0]}
            own = [f"{name}={word}" for name, span in spans.items() for word in words(postcard, span).split()]
            own += [f"type={tail_type}", f"colour={named_colour(postcard, pair)}", f"before={pair['tail'][0]}"]
            texts.append(" ".join(postcard.tokens + own))
    return texts


def test_text_alone_cannot_decide(train, test):
    vectorizer, model = CountVectorizer(token_pattern=r"\S+", min_df=2), LogisticRegression(C=0.1, max_iter=1000)
    model.fit(vectorizer.fit_transform(bag_of_words(train)), relations(train))
    predicted = model.predict(vectorizer.transform(bag_of_words(test)))
    f1 = f1_score(relations(test), predicted, labels=POSTCARDS_RELATIONS[1:], average="micro")
    assert f1 < 0.45  # one guess in four within a type, None included


def fields(postcards):
    """Everything of a pair that is neither word nor pixel: type, counts, positions, sizes, order."""
    rows = []
    for postcard in postcards:
        boxes = np.full((8, 4), -1)
        boxes[: len(postcard.stickers)] = [sticker.box for sticker in postcard.stickers]
        for number, tail_type in enumerate(postcard.tail_types):
            counts = [len(postcard.stickers), len(postcard.pairs), len(postcard.tokens), number]
            rows.append([list(MEANING).index(tail_type), *counts, *boxes.ravel()])
    return np.array(rows)


def test_counts_boxes_and_order_tell_nothing(train, test):
    forest = RandomForestClassifier(50, min_samples_leaf=5, random_state=0).fit(fields(train), relations(train))
    predicted = forest.predict(fields(test))
    assert np.mean(predicted == np.array(relations(test))) < 0.35  # chance is 0.25


@pytest.mark.parametrize("field", ["num_stickers", "num_pairs", "own_position", "own_size"])
def test_no_field_depends_on_the_shape(train, field):
    table = collections.Counter()
    for postcard in train:
        for position, sticker in enumerate(postcard.stickers):
            values = {"num_stickers": len(postcard.stickers), "num_pairs": len(postcard.pairs)}
            values |= {"own_position": position, "own_size": sticker.box[2] - sticker.box[0]}
            table[values[field], sticker.shape] += 1
    values = sorted({value for value, _ in table})
    assert chi2_contingency([[table[value, shape] for shape in POSTCARDS_SHAPES] for value in values]).pvalue > 0.001


def test_own_sticker_stands_anywhere_in_the_order(train):
    full = [postcard.stickers for postcard in train if len(postcard.stickers) == 8]
    positions = collections.Counter([sticker.pair for sticker in stickers].index(0) for stickers in full)
    assert len(positions) == 8 and max(positions.values()) < 0.3 * positions.total()


def test_rows_are_the_postcards(tmp_path):
    sizes = {"num_train": 3, "num_validation": 4, "num_test": 2}
    built = build(Postcards, config_name="postcards", cache_dir=tmp_path, **sizes)
    assert {f"num_{split}": part.num_rows for split, part in built.items()} == sizes
    row, postcard = built["train"][2], draw("train", 3, num_train=1000)[2]  # whatever the size
    names = built["train"].features["pairs"].feature["relation"]
    assert names.names == POSTCARDS_RELATIONS
    row["pairs"] = [pair | {"relation": names.int2str(pair["relation"])} for pair in row["pairs"]]
    image = row.pop("image")
    assert image.tobytes() == postcard.image.tobytes() and image.format == "PNG"
    boxes = [[*sticker.box] for sticker in postcard.stickers]
    nodes = {"boxes": boxes, "object_labels": ["sticker"] * len(boxes)}
    assert row.pop("hypergraph") == hypergraph_of(row | {"image": image})
    assert row == new_post("train-00002", postcard.tokens, "train-00002", postcard.pairs, **nodes)
    assert all(pair["image_phrases"] is None for pair in postcard.pairs)


def test_text_phrases_and_pairs_can_be_limited():
    postcards = draw("train", 20, text_phrases=False, max_pairs=1)
    assert all(len(postcard.pairs) == 1 and postcard.pairs[0]["text_phrases"] == [] for postcard in postcards)


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_train", 0), ("num_test", "3"), ("image_size", 64), ("max_pairs", 7), ("max_pairs", True)],
)
def test_the_builder_checks_the_fields_it_is_given(tmp_path, field, value):
    with pytest.raises(ValueError, match=f"{field}: .*{value!r}"):
        Postcards(cache_dir=str(tmp_path), **{field: value})


def test_the_selector_reads_pixels_and_ranks_the_pair_s_own_sticker_first():
    for postcard in draw("train", 60, seed=3):
        for number, pair in enumerate(postcard.pairs):
            assert sorted(pair["objects"]) == list(range(len(postcard.stickers)))
            assert postcard.stickers[pair["objects"][0]].pair == number
    image = Image.new("RGB", (30, 10), (255, 255, 255))
    image.paste(POSTCARDS_COLOURS["blue"], (20, 0, 30, 10))
    boxes = [(0, 0, 10, 10), (10, 0, 20, 10), (20, 0, 30, 10)]
    assert rank_objects(image, boxes, "blue") == [2, 0, 1] and rank_objects(image, boxes, "red") == [0, 1, 2]
