"""From posts to model inputs: what is decoded at the positions the processor gives is what the post says."""

import copy
import functools
import operator
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import ALL_MODES
from transformers import AutoConfig, AutoProcessor, CanineTokenizer

from modeling_vmhan import VMHANProcessor, encoder_rows
from modeling_vmhan.regions import PixelTransform, region_inputs
from modeling_vmhan.windows import MARKERS


def row_tokens(processor, inputs, row):
    """Tokens of an encoder row, without padding."""
    ids = inputs["input_ids"][row][inputs["attention_mask"][row].bool()]
    return processor.tokenizer.convert_ids_to_tokens(ids.tolist())


def node_tokens(processor, inputs, name, pair, node):
    """Tokens at a node's positions; [] for an absent node."""
    row = row_tokens(processor, inputs, inputs["pair_to_sequence"][pair])
    return [row[position] for position in inputs[name][pair, node].tolist() if position >= 0]


def mention_tokens(processor, inputs, pair, role):
    """Tokens of the head (role 0) or tail (1), by whichever way the mode marks them; other markers dropped.

    For `packed` the positions shared with the pair's two markers are read.
    """
    mode = processor.entity_representation
    if mode == "span":
        return node_tokens(processor, inputs, "entity_tokens", pair, role)
    row = row_tokens(processor, inputs, inputs["pair_to_sequence"][pair])
    (opening,) = [position for position in inputs["entity_tokens"][pair, role].tolist() if position >= 0]
    assert row[opening] == MARKERS[2 * role]
    if mode == "marker":
        closing = row.index(MARKERS[2 * role + 1])
        return [token for token in row[opening:closing] if token not in MARKERS]
    assert row[opening + 1] == MARKERS[2 * role + 1]
    positions = inputs["position_ids"][inputs["pair_to_sequence"][pair]]
    return row[positions[opening] : positions[opening + 1] + 1]


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=lambda text, name=name: name + text)


@ALL_MODES
def test_text_and_tokens_give_identical_inputs(mode, make_processor, posts):
    processor = make_processor(entity_representation=mode)
    from_tokens = posts()
    from_text = posts()
    for post in from_text:
        words = post.pop("tokens")
        starts = [len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
        post["text"] = " ".join(words)

        def characters(span, words=words, starts=starts):
            return starts[span[0]], starts[span[1] - 1] + len(words[span[1] - 1])

        for pair in post["pairs"]:
            pair["head"], pair["tail"] = characters(pair["head"]), characters(pair["tail"])
            pair["text_phrases"] = [characters(span) for span in pair.get("text_phrases", [])]
    same(processor(from_text), processor(from_tokens))


@pytest.mark.parametrize("name", ["tokenizer", "roberta_tokenizer"])
def test_a_row_is_what_the_tokenizer_itself_makes_of_both_segments(name, request, make_processor):
    tokenizer = request.getfixturevalue(name)
    processor = make_processor(tokenizer=tokenizer, entity_representation="span")
    text, caption = "Ann met Bob in Paris", "a red car"
    pair = {"head": (0, 3), "tail": (8, 11)}
    for post, segments in (
        ({"text": text, "pairs": [pair]}, (text,)),
        ({"text": text, "pairs": [pair], "caption": caption}, (text, caption)),
    ):
        inputs, expected = processor(post), tokenizer(*segments)
        for key in tokenizer.model_input_names:
            assert inputs[key].tolist() == [expected[key]]
        assert ("token_type_ids" in inputs) == ("token_type_ids" in tokenizer.model_input_names)


@ALL_MODES
def test_roberta_with_two_separators_and_no_token_types(mode, make_processor, roberta_tokenizer):
    processor = make_processor(tokenizer=roberta_tokenizer, entity_representation=mode)
    post = {
        "tokens": "Ann met Zoltan in Paris".split(),
        "pairs": [{"head": (2, 3), "tail": (4, 5), "text_phrases": [(3, 5)]}],
        "caption": "a red car next to a man",
        "image_phrases": ["red car"],
    }
    inputs = processor([post, {**post, "caption": None, "image_phrases": []}])
    assert "token_type_ids" not in inputs
    rows = [row_tokens(processor, inputs, row) for row in range(2)]
    assert [row.count("</s>") for row in rows] == [3, 1] and rows[0][0] == "<s>"
    assert (inputs["input_ids"][1][inputs["attention_mask"][1] == 0] == roberta_tokenizer.pad_token_id).all()

    def text(tokens):
        return roberta_tokenizer.convert_tokens_to_string(tokens).strip()

    for pair in range(2):
        assert text(mention_tokens(processor, inputs, pair, 0)) == "Zoltan"
        assert text(mention_tokens(processor, inputs, pair, 1)) == "Paris"
        phrase = node_tokens(processor, inputs, "text_phrase_tokens", pair, 0)
        assert text([token for token in phrase if token not in MARKERS]) == "in Paris"
    assert text(node_tokens(processor, inputs, "image_phrase_tokens", 0, 0)) == "red car"
    assert node_tokens(processor, inputs, "image_phrase_tokens", 1, 0) == []


@ALL_MODES
def test_letters_the_tokenizer_rewrites_keep_their_spans(mode, make_processor):
    processor = make_processor(entity_representation=mode)
    text = "😀 Zoë  met\tJosé-María !"
    head, tail = (text.index("Zoë"), text.index("Zoë") + 3), (text.index("José"), text.index(" !"))
    inputs = processor({"text": text, "pairs": [{"head": head, "tail": tail}]})
    assert mention_tokens(processor, inputs, 0, 0) == processor.tokenizer.tokenize("zoe")
    assert mention_tokens(processor, inputs, 0, 1) == processor.tokenizer.tokenize("jose-maria")


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 1), (2, 3), "[E1] ann [/E1] met [E2] bob [/E2] in paris"),
        ((4, 5), (0, 1), "[E2] ann [/E2] met bob in [E1] paris [/E1]"),  # head after tail, ending the sentence
        ((0, 2), (2, 5), "[E1] ann met [/E1] [E2] bob in paris [/E2]"),  # adjacent
        ((0, 5), (2, 3), "[E1] ann met [E2] bob [/E2] in paris [/E1]"),  # nested
        ((0, 3), (0, 1), "[E1] [E2] ann [/E2] met bob [/E1] in paris"),  # nested, same start
        ((1, 3), (1, 3), "ann [E1] [E2] met bob [/E2] [/E1] in paris"),  # identical
        ((0, 3), (2, 5), "[E1] ann met [E2] bob [/E1] in paris [/E2]"),  # overlapping
    ],
)
def test_markers_stand_around_the_mentions(head, tail, expected, make_processor):
    processor = make_processor()
    inputs = processor({"tokens": "Ann met Bob in Paris".split(), "pairs": [{"head": head, "tail": tail}]})
    row = row_tokens(processor, inputs, 0)
    assert row == ["[CLS]", *expected.split(), "[SEP]"]
    assert [row[position] for position in inputs["entity_tokens"][0].flatten()] == ["[E1]", "[E2]"]


def test_packed_markers_stand_behind_the_row_at_the_mentions_positions(make_processor):
    processor = make_processor(entity_representation="packed")
    pairs = [{"head": (0, 1), "tail": (2, 5)}, {"head": (2, 4), "tail": (2, 4)}]
    inputs = processor({"tokens": "Ann met Bob in Paris".split(), "pairs": pairs, "caption": "red car"})
    assert row_tokens(processor, inputs, 0) == (
        "[CLS] ann met bob in paris [SEP] red car [SEP] [E1] [/E1] [E2] [/E2] [E1] [/E1] [E2] [/E2]".split()
    )
    assert inputs["position_ids"][0].tolist() == [*range(10), 1, 1, 3, 5, 3, 4, 3, 4]
    assert inputs["marker_pair"][0].tolist() == [0] * 10 + [1] * 4 + [2] * 4
    assert inputs["entity_tokens"].tolist() == [[[10], [12]], [[14], [16]]]
    assert inputs["token_type_ids"][0].tolist() == [0] * 7 + [1] * 3 + [0] * 8


@st.composite
def random_posts(draw):
    """A sentence of words in one or several pieces, and one to three pairs of spans of one to three words."""
    word = st.one_of(
        st.sampled_from(["ann", "met", "bob", "paris", "the", "band"]),
        st.text(string.ascii_lowercase, min_size=1, max_size=4),
    )
    words = draw(st.lists(word, min_size=3, max_size=40))

    def span():
        start = draw(st.integers(0, len(words) - 1))
        return start, draw(st.integers(start + 1, min(start + 3, len(words))))

    pairs = [{"head": span(), "tail": span(), "text_phrases": [span()]} for _ in range(draw(st.integers(1, 3)))]
    caption = draw(st.sampled_from([None, "a red car next to a big stage"]))
    return {"tokens": words, "pairs": pairs, "caption": caption}


@ALL_MODES
@settings(max_examples=60)
@given(post=random_posts())
def test_the_window_moves_and_keeps_both_mentions(mode, make_processor, post):
    processor = make_processor(entity_representation=mode, max_length=32, max_image_text_length=8)
    words = post["tokens"]

    def tokenized(span):
        return processor.tokenizer.tokenize(" ".join(words[slice(*span)]))

    try:
        inputs = processor(post)
    except ValueError as error:  # only where it is true that a pair does not fit
        assert "max_length" in str(error)
        hulls = [(min(p["head"][0], p["tail"][0]), max(p["head"][1], p["tail"][1])) for p in post["pairs"]]
        assert max(len(tokenized(hull)) for hull in hulls) > 32 - 2 - 4 * (mode == "marker")
        return
    longest = (inputs["attention_mask"] * (inputs["marker_pair"] == 0 if mode == "packed" else 1)).sum(dim=1).max()
    assert longest <= 32
    assert inputs["pair_to_sequence"].unique().tolist() == list(range(len(inputs["input_ids"])))
    for index, pair in enumerate(post["pairs"]):
        assert mention_tokens(processor, inputs, index, 0) == tokenized(pair["head"])
        assert mention_tokens(processor, inputs, index, 1) == tokenized(pair["tail"])
        phrase = node_tokens(processor, inputs, "text_phrase_tokens", index, 0)
        assert [token for token in phrase if token not in MARKERS] in ([], tokenized(pair["text_phrases"][0]))


@pytest.fixture
def long_post():
    """60 words; two pairs near its start and one near its end."""
    words = ["and"] * 60
    words[2], words[6], words[55], words[59] = "ann", "bob", "paris", "band"
    pairs = [{"head": (2, 3), "tail": (6, 7)}, {"head": (59, 60), "tail": (55, 56)}, {"head": (6, 7), "tail": (2, 3)}]
    return {"id": "long", "tokens": words, "pairs": pairs}


@ALL_MODES
def test_pairs_share_a_window_only_where_it_is_the_same(mode, make_processor, long_post):
    processor = make_processor(entity_representation=mode, max_length=24)
    inputs = processor(long_post)
    assert inputs["pair_to_sequence"].tolist() == [0, 1, 2 if mode == "marker" else 0]
    assert inputs["pair_to_example"].tolist() == [0, 0, 0]
    mentions = [[mention_tokens(processor, inputs, pair, role) for role in (0, 1)] for pair in range(3)]
    assert mentions == [[["ann"], ["bob"]], [["band"], ["paris"]], [["bob"], ["ann"]]]


@ALL_MODES
def test_mentions_too_far_apart_name_the_post_and_max_length(mode, make_processor, long_post):
    long_post["pairs"].append({"head": (0, 1), "tail": (58, 59)})
    with pytest.raises(ValueError, match=r"post 'long': the mentions of pair 3 span 59 tokens .*Raise max_length"):
        make_processor(entity_representation=mode, max_length=24)(long_post)


def test_a_text_phrase_around_a_mention_skips_the_markers(make_processor):
    processor = make_processor()
    pair = {"head": (0, 1), "tail": (2, 3), "text_phrases": [(0, 4), (2, 3)]}
    inputs = processor({"tokens": "Ann met Bob in Paris".split(), "pairs": [pair]})
    assert node_tokens(processor, inputs, "text_phrase_tokens", 0, 0) == ["ann", "met", "bob", "in"]
    assert node_tokens(processor, inputs, "text_phrase_tokens", 0, 1) == ["bob"]


@pytest.fixture
def with_image_text(make_processor):
    """`with_image_text(caption, phrases, **processor fields)` -> (processor, inputs, phrases) of a short post."""

    def encoded(caption, phrases=None, pair_fields=None, **fields):
        processor = make_processor(**fields)
        pair = {"head": (0, 1), "tail": (2, 3), **(pair_fields or {})}
        post = {"tokens": "Ann met Bob".split(), "caption": caption, "image_phrases": phrases, "pairs": [pair]}
        inputs = processor(post)
        count = inputs["image_phrase_tokens"].shape[1] if "image_phrase_tokens" in inputs else 0
        nodes = [node_tokens(processor, inputs, "image_phrase_tokens", 0, node) for node in range(count)]
        return processor, inputs, [" ".join(node) for node in nodes]

    return encoded


CAPTION = "a red car next to a big stage"
IMAGE_TEXTS = [  # caption, phrases, what the second segment is, the phrases' nodes
    (CAPTION, ["big stage", "red car"], CAPTION, ["big stage", "red car"]),  # found where they stand
    ("a big stage", ["blue sky", "stage"], "a big stage ; blue sky", ["blue sky", "stage"]),  # one is not there
    (None, ["blue sky", "red car"], "blue sky ; red car", ["blue sky", "red car"]),
    (" a big stage ", [], "a big stage", ["a big stage"]),  # the caption is one phrase
    (None, None, None, []),
    ("", [], None, []),
    ("  ", [" "], None, []),
    ("a red car", [" ", "car", "red"], "a red car", ["", "car", "red"]),  # a blank one keeps the others' numbers
]


@ALL_MODES
@pytest.mark.parametrize(("caption", "phrases", "segment", "expected"), IMAGE_TEXTS)
def test_the_image_text_is_the_second_segment(caption, phrases, segment, expected, mode, with_image_text):
    processor, inputs, nodes = with_image_text(caption, phrases, entity_representation=mode)
    row = [token for token in row_tokens(processor, inputs, 0) if token not in MARKERS]
    assert nodes == expected
    assert " ".join(row).endswith("bob [SEP]" if segment is None else f"bob [SEP] {segment} [SEP]")
    places = inputs["image_phrase_tokens"][0]
    assert (inputs["token_type_ids"][0, places[places >= 0]] == 1).all()
    assert (inputs["token_type_ids"] == 0).all() == (segment is None)


def test_a_phrase_inside_a_longer_word_is_not_the_phrase(with_image_text):
    processor, inputs, nodes = with_image_text("a woman , a man and a red-car car", ["man", "car", "red-car"])
    row = row_tokens(processor, inputs, 0)
    first = inputs["image_phrase_tokens"][0, 0, 0].item()
    assert row[first - 2 : first] == [",", "a"]
    assert nodes == [" ".join(processor.tokenizer.tokenize("man")), "car", "red - car"]


@pytest.mark.parametrize(
    ("caption", "phrase", "text"),
    [
        ("ca\u0301r", "car", "ca\u0301r ; car"),  # another word
        ("a cár , car", "ca\u0301r", "a cár , car"),  # the same one
        ("红车在街上", "红车", "红车在街上"),
        ("कमला", "कमल", "कमला ; कमल"),
        ("big", "\u200b", "big ; \u200b"),  # of no word, and yet no error
    ],
)
def test_a_phrase_is_found_in_any_script(caption, phrase, text, with_image_text, monkeypatch):
    read = []
    tokenized = encoder_rows.tokenized
    monkeypatch.setattr(encoder_rows, "tokenized", lambda by, text: read.append(text) or tokenized(by, text))
    with_image_text(caption, [phrase])
    assert read[-1] == text


@ALL_MODES
def test_special_tokens_that_somebody_wrote_are_words(mode, make_processor):
    """Only the processor's own separators and markers are those."""
    text = "Ann [SEP] met [E1] Bob"
    processor = make_processor(entity_representation=mode)
    inputs = processor({"text": text, "pairs": [{"head": (0, 3), "tail": (19, 22)}], "caption": "[SEP] a car"})
    row = row_tokens(processor, inputs, 0)
    assert row.count("[SEP]") == 2 and row.count("[E1]") == (mode != "span")
    assert mention_tokens(processor, inputs, 0, 1) == ["bob"]


@pytest.mark.parametrize(
    ("phrases", "expected"), [(["red car", "to a big", "stage"], ["red car", "", ""]), ([], ["a red car next to a"])]
)
def test_a_long_image_text_is_cut_and_half_a_phrase_is_none(phrases, expected, with_image_text):
    processor, inputs, nodes = with_image_text(CAPTION, phrases, max_image_text_length=6)
    assert " ".join(row_tokens(processor, inputs, 0)).endswith("[SEP] a red car next to a [SEP]")
    assert nodes == expected


@ALL_MODES
@pytest.mark.parametrize(("room", "kept"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_the_image_text_takes_what_the_sentence_leaves(mode, room, kept, make_processor):
    """Both mentions are kept though they fill the row: the separator in front of no image text is left out."""
    post = {"tokens": ["and"] * 20, "pairs": [{"head": (0, 1), "tail": (19, 20)}], "caption": "a red car"}
    length = 20 + 2 + 4 * (mode == "marker") + room
    processor = make_processor(entity_representation=mode, max_length=length)
    inputs = processor(post)
    row = [token for token in row_tokens(processor, inputs, 0) if token not in MARKERS]
    assert row == ["[CLS]", *["and"] * 20, "[SEP]", *["a", "red", "car"][:kept], *["[SEP]"] * bool(kept)]
    assert node_tokens(processor, inputs, "image_phrase_tokens", 0, 0) == ["a", "red", "car"][:kept]


@pytest.mark.parametrize(
    ("chosen", "limit", "expected"),
    [
        (None, 3, ["a", "big", "red"]),
        ([], 2, []),  # a choice, too, and the image text is read all the same
        ([3, 0], 3, ["car", "a"]),
        ([3, 0, 1], 1, ["car"]),
        ([3, 0], 0, []),  # and the image text is not read
    ],
)
def test_a_pair_chooses_its_image_phrases(chosen, limit, expected, with_image_text):
    words, choice = ["a", "big", "red", "car"], {"image_phrases": chosen}
    processor, inputs, nodes = with_image_text("a big red car", words, choice, num_image_phrases=limit)
    assert nodes == expected and row_tokens(processor, inputs, 0).count("[SEP]") == 1 + (limit > 0)


def test_features_go_through_as_they_are(make_processor, posts):
    posts = posts()
    posts[0]["image_features"] = np.asarray(posts[0]["image_features"], dtype=np.float16)  # as a data set stores them
    inputs = make_processor()(posts)
    assert inputs["image_mask"].tolist() == [True, False, True, True]
    assert inputs["image_features"].dtype == torch.float32
    torch.testing.assert_close(inputs["image_features"][0], torch.tensor(posts[0]["image_features"]).float())
    torch.testing.assert_close(inputs["object_features"][0], torch.tensor(posts[0]["object_features"]))
    torch.testing.assert_close(inputs["object_features"][3, :2], torch.tensor(posts[3]["object_features"]))
    assert inputs["object_mask"].sum(dim=1).tolist() == [4, 0, 0, 2]
    assert inputs["object_mask"][3].tolist() == [True, True, False, False]
    assert (inputs["image_features"][1] == 0).all() and (inputs["object_features"][3, 2:] == 0).all()


def test_a_pair_chooses_its_objects(make_processor, posts):
    batch = posts()
    batch[0]["pairs"][2]["objects"] = []
    inputs = make_processor()(batch)
    assert inputs["pair_objects"].tolist() == [
        [0, 1, 2],  # no choice: the first K
        [3, 0, -1],
        [-1, -1, -1],  # the choice of none
        [-1, -1, -1],  # no image
        [-1, -1, -1],  # no object
        [0, 1, -1],
    ]
    assert make_processor(num_objects=1)(posts())["pair_objects"].tolist() == [[0], [3], [0], [-1], [-1], [0]]
    assert make_processor(num_objects=0)(posts())["pair_objects"].shape == (6, 0)


def test_a_place_of_minus_one_stays_empty(make_processor, posts):
    """What comes next does not move up into it, and the objects are there without the image that they are of."""
    batch = posts()
    batch[0]["pairs"][0]["objects"] = [2, -1, 0, 1]
    batch[0]["pairs"][0]["image_phrases"] = [-1, 1]
    batch[0]["image_features"] = None
    inputs = make_processor()(batch)
    assert inputs["pair_objects"][0].tolist() == [2, -1, 0]
    assert [(phrase >= 0).any().item() for phrase in inputs["image_phrase_tokens"][0]] == [False, True, False]
    assert inputs["image_mask"].tolist() == [False, False, True, True]
    assert inputs["object_mask"][0].all() and inputs["object_features"][0].abs().sum(dim=-1).min() > 0


@ALL_MODES
def test_a_tail_that_is_an_object(mode, make_processor, object_post, posts):
    processor = make_processor(entity_representation=mode)
    inputs = processor([object_post(), posts()[3]])
    assert inputs["tail_object"].tolist() == [2, 0, -1]
    for pair, head in enumerate(["ann", "band"]):
        assert mention_tokens(processor, inputs, pair, 0)[-1] == head
        assert (inputs["entity_tokens"][pair, 1] == -1).all()
    first = row_tokens(processor, inputs, 0)
    assert "[E2]" not in first and first.count("[E1]") == {"marker": 1, "span": 0, "packed": 2}[mode]


@pytest.mark.parametrize(
    ("tail", "chosen", "limit", "expected"),
    [
        (2, None, 3, [0, 1]),  # the other objects, in their order
        (0, None, 1, [1]),  # the next one takes its place
        (2, [2, 1, 0], 2, [1, 0]),
        (2, [2, 2, 1, 0], 2, [1, 0]),
        (2, [-1, 2, 0], 3, [-1, 0]),  # a place left empty stays so
        (2, [2], 3, []),
        (None, [-1, 2, 0], 3, [-1, 2, 0]),  # a text tail is no object
    ],
)
def test_a_tail_is_none_of_its_own_pair_s_objects(tail, chosen, limit, expected, make_processor, object_post):
    post = object_post()
    pair = {"head": (0, 1), **({"tail": (4, 5)} if tail is None else {"tail_object": tail})}
    post["pairs"] = [pair if chosen is None else pair | {"objects": chosen}]
    assert make_processor(num_objects=limit)(post)["pair_objects"].tolist() == [expected]


def test_pixels_are_cropped_as_the_boxes_say(make_processor, posts):
    image = Image.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(40, 60, 3)).convert("P")
    boxes = [[0, 0, 20, 20], [10.5, 5, 60, 40]]
    no_image, post = posts()[1], posts()[2]
    del post["image_features"], post["object_features"]
    inputs = make_processor(image_transform={"size": 32})([no_image, {**post, "image": image, "boxes": boxes}])
    assert inputs["image_mask"].tolist() == [False, True]
    assert inputs["object_mask"].tolist() == [[False, False], [True, True]]
    assert inputs["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert (inputs["pixel_values"][0] == 0).all()
    expected, _ = region_inputs(image, boxes, transform=PixelTransform(size=32))
    torch.testing.assert_close(inputs["pixel_values"][1], expected)
    assert inputs["pair_objects"].tolist() == [[-1, -1], [1, 0]]  # the larger one first
    assert "image_features" not in inputs and "object_features" not in inputs


def test_given_features_spare_the_pixels(make_processor, posts):
    post = posts()[0]
    with_image = {**post, "image": Image.new("RGB", (40, 40)), "boxes": [[0, 0, 9, 9]] * 4}
    same(make_processor()(with_image), make_processor()(post))


@ALL_MODES
def test_rows_are_padded_to_the_longest_and_no_further(mode, make_processor, posts):
    processor = make_processor(entity_representation=mode)
    inputs = processor(posts())
    assert inputs["attention_mask"].sum(dim=1).max() == inputs["input_ids"].shape[1]
    padding = inputs["attention_mask"] == 0
    assert padding.any() and (inputs["input_ids"][padding] == processor.tokenizer.pad_token_id).all()
    for name in ("token_type_ids", "position_ids", "marker_pair"):
        if name in inputs:
            assert inputs[name].shape == inputs["input_ids"].shape and (inputs[name][padding] == 0).all()


@ALL_MODES
def test_the_batch_changes_nothing_for_a_post(mode, make_processor, posts):
    processor = make_processor(entity_representation=mode)
    together, pair = processor(posts()), 0
    for example, post in enumerate(posts()):
        alone = processor(post)
        for index in range(len(post["pairs"])):
            for name in ("text_phrase_tokens", "image_phrase_tokens"):
                for node in range(alone[name].shape[1]):
                    expected = node_tokens(processor, alone, name, index, node)
                    assert node_tokens(processor, together, name, pair, node) == expected
            rows = [row_tokens(processor, x, x["pair_to_sequence"][i]) for x, i in ((alone, index), (together, pair))]
            assert rows[0] == rows[1]
            assert together["pair_to_example"][pair] == example
            pair += 1


def test_the_post_is_left_as_it_was(make_processor, posts):
    given_posts = posts()
    make_processor()(given_posts)
    assert given_posts == copy.deepcopy(posts())


def test_labels_by_name_or_by_id(make_processor, make_config, posts):
    label2id = make_config().label2id
    by_id = posts()
    for post in by_id:
        for pair in post["pairs"]:
            pair["relation"] = label2id[pair["relation"]]
    processor = make_processor()
    assert processor(posts(), label2id=label2id)["labels"].tolist() == [0, 2, 1, 3, 2, 1]
    same(processor(posts(), label2id=label2id), processor(by_id, label2id=label2id))
    assert "labels" not in processor(posts())


def test_numbers_of_numpy_are_whole_numbers(make_processor, make_config, posts):
    label2id = make_config().label2id
    given_posts, arrays = posts(), posts()
    for post, other in zip(given_posts, arrays, strict=True):
        for pair, array in zip(post["pairs"], other["pairs"], strict=True):
            nodes = (("objects", "object_features"), ("image_phrases", "image_phrases"))
            counts = {key: len(post.get(name, [])) for key, name in nodes}
            pair |= {key: list(range(count))[::-1] for key, count in counts.items()} | {"tail_object": -1}
            array |= {key: np.array(pair[key], dtype=int) for key in ("head", "tail", *counts)}
            array |= {"tail_object": np.int64(-1), "relation": np.int64(label2id[pair["relation"]])}
    lengths = {"max_length": np.int64(100), "num_objects": np.int32(2)}
    same(make_processor(**lengths)(arrays, label2id), make_processor(num_objects=2)(given_posts, label2id))


@pytest.mark.parametrize("loader", [VMHANProcessor, AutoProcessor])
@pytest.mark.parametrize("name", ["tokenizer", "roberta_tokenizer"])
def test_save_and_load_keep_fields_and_markers(name, loader, request, make_processor, make_config, posts, tmp_path):
    fields = {"entity_representation": "packed", "max_length": 50, "max_image_text_length": 7, "num_objects": 2}
    fields |= {"num_text_phrases": 1, "num_image_phrases": 2, "visual_feature_size": 8, "vision_encoder": "vgg16"}
    fields |= {"image_transform": {"size": 64, "mean": [0.5, 0.5, 0.5]}}
    processor = make_processor(tokenizer=request.getfixturevalue(name), **fields)
    expected = processor(posts())  # saved after use: what was cached must not be saved
    processor.save_pretrained(tmp_path)
    make_config().save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is VMHANProcessor
    assert {field: getattr(loaded, field) for field in fields} == fields
    ids = [either.tokenizer.convert_tokens_to_ids(list(MARKERS)) for either in (loaded, processor)]
    assert ids[0] == ids[1] and len(loaded.tokenizer) == len(processor.tokenizer)
    same(loaded(posts()), expected)


@pytest.mark.parametrize("tokenizer", [None, CanineTokenizer()], ids=["none", "slow"])
def test_a_tokenizer_without_offsets_is_refused(tokenizer):
    with pytest.raises(ValueError, match=rf"tokenizer .*use_fast=True.* {type(tokenizer).__name__}"):
        VMHANProcessor(tokenizer)


BAD_FIELDS = {"max_length": 0, "max_image_text_length": -1, "num_objects": -1, "image_transform": 224}
BAD_FIELDS |= {"entity_representation": "mean", "vision_encoder": "vgg19"}


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS.items())
def test_a_field_that_breaks_its_rule_is_refused(field, value, make_processor):
    with pytest.raises(ValueError, match=f"{field} must be .*received {value!r}"):
        make_processor(**{field: value})


# name -> (keys that lead to the place in the post, the value to put there), what the message says
BAD_POSTS = {
    "tokens of one word": (("tokens", "Ann met Bob"), "tokens must be a list of .*received str"),
    "caption of a list": (("caption", ["a"]), "caption must be a string, received list"),
    "phrases of numbers": (("image_phrases", ["a", 3]), "image_phrases must be .* received int: 3"),
    "pairs of lists": (("pairs", [["Anna", "Ann"]]), "pairs must be a list of dicts, received list"),
    "no pairs": (("pairs", []), r"post 'everything' has no entity pair: give pairs="),
    "unknown key": (("imge", 1), r"unknown keys \['imge'\]: .*'boxes'.*mean image\?"),
    "neither text nor tokens": (("tokens", None), "post 'everything' must have text or tokens, received"),
    "other tokens than the text": (("text", "Ann met  Bo in"), r"everything.*'Bob' as token 2 .*'Bo in'"),
    "fewer tokens than the text": (("text", "Ann met Bob in Paris with the Zulu band !"), "no token 9 .*'!'"),
    "more tokens than the text": (("text", "Ann met Bob in Paris with the Zulu"), "'band' as token 8 .*''"),
    "span outside": (("pairs", 1, "head", (7, 10)), r"pair 1, head: .*end <= 9.*received \(7, 10\)"),
    "span empty": (("pairs", 0, "tail", (3, 3)), r"pair 0, tail: .*start < end.*received \(3, 3\)"),
    "no span": (("pairs", 0, "head", None), r"pair 0 needs head, .*received \{'tail': \(2, 3\)\}"),
    "span of fractions": (("pairs", 0, "tail", (0.0, 3.0)), r"pair 0: tail must be .*received tuple: \(0\.0, 3\.0\)"),
    "text phrase that is not there": (("pairs", 0, "text_phrases", ["An"]), "pair 0, text phrase: 'An' is not in the"),
    "text phrases in one": (("pairs", 0, "text_phrases", "Ann"), "pair 0: text_phrases must be .*received str: 'Ann'"),
    "text phrases are no list": (("pairs", 0, "text_phrases", 3), "pair 0: text_phrases must be a list .*int"),
    "white space": (("tokens", "Ann met   in Paris a b c d".split(" ")), r"no token for the span \(2, 3\)"),
    "relation name": (("pairs", 0, "relation", "enemy"), r"unknown relation 'enemy'; .*\['peer', 'None'"),
    "relation id": (("pairs", 0, "relation", 4), "unknown relation 4"),
    "features that are not finite": (("image_features", [float("inf")] * 8), "image_features must be finite"),
    "image features": (("image_features", [0.0] * 9), r"image_features must have shape \(8,\), .* \(9,\)"),
    "object features": (("object_features", [[0.0] * 9] * 2), r"object_features .*\(2, 8\).* received \(2, 9\)"),
    "boxes are no list": (("boxes", 3), "boxes must be a list .*received int: 3"),
    "ragged features": (
        ("object_features", [[0.0] * 8, [0.0]]),
        r"object_features must be .* numbers .*received list: \[\[0\.0, ",
    ),
    "tail object": (
        ("pairs", 0, {"head": (0, 1), "tail_object": 4, "relation": 0}),
        r"pair 0: tail_object must be .*4 objects.*received 4",
    ),
    "tail object in words": (("pairs", 0, "tail_object", "0"), "pair 0: tail_object .*received str: '0'"),
    "tail object by truth": (("pairs", 0, "tail_object", True), "pair 0: tail_object must be .*received bool"),
    "unknown key of a pair": (("pairs", 1, "objcts", [1]), r"pair 1 .*\['objcts'\]: .*'objects'"),
    "objects are no list": (("pairs", 0, "objects", 1), "pair 0: objects must be a list .*received int: 1"),
    "phrase in words": (("pairs", 0, "image_phrases", ["man"]), "image_phrases must be .*received str: 'man'"),
    "object index": (("pairs", 0, "objects", [0, 4]), r"objects must be indices below 4.*received \[4\]"),
    "object of none": (("object_features", []), r"objects must be left out .*image.*received \[3, 0\]"),
}


@pytest.mark.parametrize(("path", "match"), BAD_POSTS.values(), ids=BAD_POSTS)
def test_a_bad_post_is_refused_by_name(path, match, make_processor, make_config, posts):
    batch = posts()
    *keys, last, value = path
    functools.reduce(operator.getitem, keys, batch[0])[last] = value
    with pytest.raises(ValueError, match=match) as caught:
        make_processor()(batch, label2id=make_config().label2id)
    assert "post 'everything'" in str(caught.value)


def test_a_batch_that_does_not_fit_together_is_refused(make_processor, posts, object_post):
    with_pixels = {**posts()[1], "image": Image.new("RGB", (40, 40))}
    for batch, fields, match in (
        ([], {}, "empty"),
        (object_post(), {"visual_feature_size": 0}, "post 'more', pair 0: .* visual_feature_size is 0"),
        ([posts()[0], with_pixels], {}, "post 'no image' .*image_features"),
    ):
        with pytest.raises(ValueError, match=match):
            make_processor(**fields)(batch)


def test_posts_come_in_any_container(make_processor, posts):
    given, processor = posts(), make_processor()
    expected = processor(given)["input_ids"]
    for batch in (tuple(given), iter(given), torch.utils.data.Subset(given, range(len(given)))):
        assert processor(batch)["input_ids"].equal(expected)
    arrays = {**given[0], "tokens": np.array(given[0]["tokens"]), "image_phrases": np.array(given[0]["image_phrases"])}
    assert processor(arrays)["input_ids"].equal(processor(given[0])["input_ids"])
    with pytest.raises(ValueError, match="post 'everything': image_phrases must be .*received generator"):
        processor({**given[0], "image_phrases": (phrase for phrase in ["a"])})


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 64), ("roberta", 62), ("deberta-v2", None)])
def test_max_length_is_at_most_the_encoder_s_absolute_positions(make_config, tokenizer, model_type, positions):
    config = make_config(num_objects=2, num_text_phrases=1, visual_feature_size=6)
    config.text_config = AutoConfig.for_model(model_type, max_position_embeddings=64)
    processor = VMHANProcessor.for_config(config, tokenizer, max_length=positions or 999)
    assert processor.max_length == (positions or 999)
    assert (processor.num_objects, processor.num_text_phrases, processor.visual_feature_size) == (2, 1, 6)
    if positions is not None:
        with pytest.raises(ValueError, match=f"at most {positions}.*{model_type}, received 65"):
            VMHANProcessor.for_config(config, tokenizer, max_length=65)
