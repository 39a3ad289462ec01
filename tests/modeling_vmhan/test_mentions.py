"""Words, tags and types of mentions, the head that finds them, and what the text encoder remembers of a sentence."""

import inspect
import math

import pytest
import torch
from tiny import close

from modeling_vmhan import (
    MultimodalRelationClassificationPipeline,
    VMHANForRelationClassification,
    asking,
    post_encoding,
)
from modeling_vmhan.argument_types import argument_types, constraints_of, types_in
from modeling_vmhan.mention_head import find_mentions, mention_loss, mentions_in
from modeling_vmhan.mentions import IGNORED, first_tokens, tags_of
from modeling_vmhan.windows import all_windows


LABELS = ["None", "/per/per/peer", "/per/loc/born", "/per/loc/born (inverse)"]
TYPES = ["loc", "per"]
RAW = {
    "entity_representation": "packed",
    "order_blind": True,
    "mentions": True,
    "id2label": dict(enumerate(LABELS)),
    "visual_feature_size": 0,
}


@pytest.mark.parametrize(
    ("words", "mentions", "tags", "begins"),
    [
        ("Ann met Bob", [(0, 3), (8, 11)], [1, 0, 1], {0: (0, 3), 2: (8, 11)}),
        ("Ann Lee met", [(0, 7)], [1, 2, 0], {0: (0, 7)}),
        ("Ann Lee met", [(4, 7), (0, 7)], [1, 2, 0], {0: (0, 7)}),  # of two that overlap the first, the longest
        ("Ann Lee met", [(0, 7), (4, 11)], [1, 2, 0], {0: (0, 7)}),
        ("Ann Lee", [(0, 3), (4, 7)], [1, 1], {0: (0, 3), 1: (4, 7)}),  # side by side they stay two
        ("Annika", [(0, 3)], [1], {0: (0, 3)}),  # a word that is covered in part
        ("Ann", [], [0], {}),
    ],
)
def test_tags(words, mentions, tags, begins):
    spans, end = [], 0
    for word in words.split():
        spans.append((end, end + len(word)))
        end += len(word) + 1
    assert tags_of(spans, mentions) == (tags, begins)


def test_the_first_token_of_each_word():
    words, offsets = [(0, 3), (4, 9), (9, 10)], [(0, 3), (4, 6), (6, 9), (11, 12)]
    assert first_tokens(words, offsets) == [0, 1, -1]


@pytest.mark.parametrize(
    ("tags", "found"),
    [("OBIO", [(1, 3)]), ("BB", [(0, 1), (1, 2)]), ("OIIO", [(1, 3)]), ("BI", [(0, 2)]), ("OO", []), ("", [])],
)
def test_mentions_are_read_off_tags(tags, found):
    logits = torch.full((len(tags), 5), -50.0)
    for word, tag in enumerate(tags):
        logits[word, "OBI".index(tag)] = 50.0
    words = [(i, i + 1) for i in range(len(tags))]
    mentions = mentions_in(logits, words, TYPES)
    assert [(mention.start, mention.end) for mention in mentions] == found
    assert all(mention.score == pytest.approx(1.0) for mention in mentions)


def test_score_and_type_of_a_mention():
    """Its words' tags and its end: P(B) P(I) (1 - P(I) of the next word)."""
    tags = torch.tensor([[0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.6, 0.0001, 0.3999]]).log()
    logits = torch.cat([tags, torch.tensor([[0.0, 2.0], [9.0, 0.0], [9.0, 0.0]])], dim=1)
    (mention,) = mentions_in(logits, [(0, 3), (4, 7), (8, 9)], TYPES)
    assert mention[:3] == (0, 7, "per")
    assert mention.score == pytest.approx(0.7 * 0.6 * (1 - 0.3999), abs=1e-4)


def test_the_loss_by_hand():
    """One row; a word of tag B with type 1, one of tag O, a token without a tag."""
    logits = torch.tensor([[[0.0, 1.0, 0.0, 0.0, 2.0], [3.0, 0.0, 0.0, 5.0, 0.0], [9.0, 9.0, 0.0, 9.0, 0.0]]])
    tags, types = torch.tensor([[1, 0, IGNORED]]), torch.tensor([[1, IGNORED, IGNORED]])
    of_tags = [math.log(2 + math.e) - 1, math.log(2 + math.e**3) - 3]
    of_types = math.log(1 + math.e**2) - 2
    close(mention_loss(logits, tags, types), torch.tensor(sum(of_tags) / 2 + of_types))
    unknown = torch.full_like(types, IGNORED)
    close(mention_loss(logits, tags, unknown), torch.tensor(sum(of_tags) / 2))
    assert mention_loss(logits, unknown, unknown) == 0


@pytest.mark.parametrize(
    ("label", "types"),
    [
        ("/per/loc/born", ("per", "loc")),
        ("/per/loc/born (inverse)", ("loc", "per")),
        ("None", None),
        ("lives in", None),
        ("per/loc", None),
    ],
)
def test_types_in_the_name_of_a_relation(label, types):
    assert argument_types(label) == types


def test_constraints_that_are_given_replace_those_of_the_names():
    assert types_in(LABELS) == ["loc", "per"]
    assert constraints_of(LABELS)[LABELS[3]] == {("loc", "per")}
    given = constraints_of(LABELS, {"/per/loc/born": [["per", "org"]]})
    assert given == {"/per/loc/born": {("per", "org")}, "/per/loc/born (inverse)": {("org", "per")}}


@pytest.mark.parametrize(("length", "budget"), [(5, 8), (8, 8), (9, 8), (30, 8), (31, 7), (3, 1)])
def test_windows_hold_every_token(length, budget):
    windows = all_windows(length, budget)
    assert {token for of in windows for token in range(of.start, of.end)} == set(range(length))
    assert all(of.end - of.start <= budget for of in windows)


def test_tags_come_with_the_labels_only(make_config, make_processor):
    config = make_config(**RAW)
    processor = make_processor(config)
    post = {"text": "ann met bob", "pairs": [{"head": (0, 3), "tail": (8, 11), "relation": "/per/per/peer"}]}
    inputs = processor(post, label2id=config.label2id)
    tokens = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    tagged = {token: tag for token, tag in zip(tokens, inputs["mention_tags"][0].tolist()) if tag != IGNORED}
    assert tagged == {"ann": 1, "met": 0, "bob": 1}
    types = inputs["mention_type_ids"]
    assert types[types != IGNORED].tolist() == [TYPES.index("per")] * 2
    assert "mention_tags" not in processor(post)


@pytest.mark.parametrize(
    ("pairs_a_row", "max_length", "rows"),
    [(1, 128, 3), (64, 16, 2)],  # packed rows of one window, and windows that overlap
)
def test_the_loss_counts_each_word_once(pairs_a_row, max_length, rows, make_model, make_processor, monkeypatch):
    monkeypatch.setattr(post_encoding, "PAIRS_A_ROW", pairs_a_row)
    model = make_model(**RAW)
    processor = make_processor(model.config, max_length=max_length)
    words = ("ann met bob in paris " + "at night they met the band " * 2).split()
    text, place = " ".join(words), [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    spans = [(place[i], place[i] + len(words[i])) for i in (0, 2, 4, 16)]
    pairs = [{"head": spans[i], "tail": spans[j], "relation": "/per/loc/born"} for i, j in ((0, 1), (1, 2), (2, 3))]
    inputs = processor({"text": text, "pairs": pairs}, label2id=model.config.label2id)
    assert len(inputs["input_ids"]) == rows
    assert (inputs["mention_tags"] != IGNORED).sum() == len(words)
    assert (inputs["mention_tags"] == 1).sum() == 4
    assert (inputs["mention_type_ids"] != IGNORED).sum() == 4


def trained_to_tag(model, processor, posts, steps=60):
    """The model, whose head and encoder have learned these posts by heart."""
    inputs = processor(posts, label2id=model.config.label2id)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.train()(**inputs).loss
        loss.backward()
        optimizer.step()
    return model.eval(), loss.item()


POSTS = [
    {"text": "ann met bob in paris", "pairs": [
        {"head": (0, 3), "tail": (8, 11), "relation": "/per/per/peer"},
        {"head": (8, 11), "tail": (15, 20), "relation": "/per/loc/born"},
        {"head": (0, 3), "tail": (15, 20), "relation": "None"},
    ]},
    {"text": "the red car played", "pairs": [{"head": (4, 11), "tail": (12, 18), "relation": "None"}]},
]  # fmt: skip


@pytest.mark.parametrize("mode", ["packed", "span"])
def test_a_trained_model_answers_raw_posts(mode, make_model, make_processor, tmp_path):
    """Saved and loaded, it says what it was trained to say, and batches say what single posts do."""
    model = make_model(**RAW | {"entity_representation": mode})
    processor = make_processor(model.config)
    model, _ = trained_to_tag(model, processor, POSTS)
    pipe = MultimodalRelationClassificationPipeline(model, processor, device="cpu")
    texts = ["night " * 200, *(post["text"] for post in POSTS), "night"]  # the first has several encoder rows
    single = [pipe(text) for text in texts]
    said = [[(fact["head"], fact["relation"], fact["tail"]) for fact in facts] for facts in single[1:]]
    assert sorted(said[0]) == [("ann", "/per/per/peer", "bob"), ("bob", "/per/loc/born", "paris")]
    assert said[1:] == [[], []]
    born = next(fact for fact in single[1] if fact["tail"] == "paris")
    assert [born[key] for key in ("head_span", "tail_span", "head_type", "tail_type")] == [
        (8, 11),
        (15, 20),
        "per",
        "loc",
    ]
    pipe.save_pretrained(tmp_path)
    again = MultimodalRelationClassificationPipeline(
        VMHANForRelationClassification.from_pretrained(tmp_path),
        type(processor).from_pretrained(tmp_path),
        device="cpu",
    )
    for facts, batched in zip(single, again(texts, batch_size=4)):
        assert [fact["head"] for fact in facts] == [fact["head"] for fact in batched]
        close(torch.tensor([fact["score"] for fact in facts]), torch.tensor([fact["score"] for fact in batched]))


@pytest.mark.parametrize("pairs_a_row", [64, 8])  # one row of the first text, or three
@pytest.mark.parametrize("visibility", ["joint", "isolated"])
@pytest.mark.parametrize("encoder", ["bert", "roberta"])
def test_what_is_remembered_of_a_sentence_changes_no_answer(
    encoder,
    visibility,
    pairs_a_row,
    make_model,
    make_text_config,
    make_processor,
    roberta_tokenizer,
    tokenizer,
    monkeypatch,
):
    """Keys, values and states of the sentence serve the second pass: the same answers as encoding it anew, with image
    phrases as without, and for all rows of a sentence.
    """
    monkeypatch.setattr(post_encoding, "PAIRS_A_ROW", pairs_a_row)
    model = make_model(**RAW, text_config=make_text_config(encoder), image_text_visibility=visibility)
    processor = make_processor(model.config, roberta_tokenizer if encoder == "roberta" else tokenizer)
    with torch.no_grad():
        model.mention_head.output.bias[1] += 100.0  # every word begins a mention
    pipe = MultimodalRelationClassificationPipeline(model, processor, device="cpu")
    phrases = {"caption": "a red car at night", "image_phrases": ["red car", "big stage"]}
    texts = ["ann met bob in paris at night", "night", "bob and the band"]
    texts = [{"text": texts[0], **phrases}, texts[1], {"text": texts[2], **phrases}]
    tokens: list[int] = []
    encoder_forward = model.vmhan.text_encoder.forward

    def counted(**inputs):
        tokens.append(inputs["input_ids"].shape[1])
        return encoder_forward(**inputs)

    monkeypatch.setattr(model.vmhan.text_encoder, "forward", counted)
    counted.__signature__ = inspect.signature(encoder_forward)
    answers = pipe(texts, batch_size=3, all_pairs=True)
    remembered, tokens[:] = list(tokens), []
    find = VMHANForRelationClassification.find_mentions
    monkeypatch.setattr(VMHANForRelationClassification, "find_mentions", lambda *a, **k: (find(*a, **k)[0], None))
    anew = pipe(texts, batch_size=3, all_pairs=True)
    assert [len(facts) for facts in answers] == [21, 0, 6]
    in_row = 21 if pairs_a_row == 64 else 7
    assert remembered[1] == in_row * 4  # the markers of a row's pairs, and no token of the sentence
    assert tokens[1] == tokens[0] + in_row * 4
    for one, other in zip(answers, anew, strict=True):
        close(torch.tensor([fact["score"] for fact in one]), torch.tensor([fact["score"] for fact in other]))


def test_a_post_in_several_passes_leaves_the_others_what_is_remembered(make_model, make_processor, monkeypatch):
    monkeypatch.setattr(asking, "PAIRS_A_PASS", 5)
    model = make_model(**RAW)
    with torch.no_grad():
        model.mention_head.output.bias[1] += 100.0  # every word begins a mention
    pipe = MultimodalRelationClassificationPipeline(model, make_processor(model.config), device="cpu")
    texts, memories = ["ann met bob in paris", "bob and the", "night"], []
    answered = pipe._answered
    monkeypatch.setattr(pipe, "_answered", lambda *given, **o: memories.append(given[2]) or answered(*given, **o))
    together = pipe(texts, batch_size=3, all_pairs=True)
    assert [memory is not None for memory in memories] == [True, False, False]  # the second post's, two passes
    assert [len(facts) for facts in together] == [10, 3, 0]
    for facts, alone in zip(together, [pipe(text, all_pairs=True) for text in texts], strict=True):
        close(torch.tensor([fact["score"] for fact in facts]), torch.tensor([fact["score"] for fact in alone]))


def test_a_long_post_is_read_in_windows(make_model, make_processor):
    """A mention at each end of a sentence that no row holds whole is found, once."""
    model = make_model(**RAW)
    processor = make_processor(model.config, max_length=16)
    text = "ann " + "the red car " * 12 + "bob"
    question = {"text": text, "pairs": []}
    sentence = processor.encode_sentence(question, "x")
    assert len(sentence.rows) > 2
    assert {word for places in sentence.word_places for word, _ in places} == set(range(len(text.split())))
    logits = torch.full((len(sentence.rows), 16, 5), 0.0)
    ids = processor.collate_rows([sentence])["input_ids"]
    for name in ("ann", "bob"):
        logits[..., 1][ids == processor.tokenizer.convert_tokens_to_ids(name)] = 20.0
    logits[..., 0] += 10.0
    (found,) = find_mentions(logits, [sentence], TYPES)
    assert [text[mention.start : mention.end] for mention in found] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("fields", "question", "match"),
    [
        ({"entity_representation": "marker"}, None, "mentions=True, entity_representation='marker'"),
        ({"mentions": False}, "ann met bob", "raw post.*--mentions true"),
    ],
)
def test_what_finds_no_mentions_says_so(fields, question, match, make_config, make_model, make_processor):
    with pytest.raises(ValueError, match=match):
        model = make_model(config=make_config(**{**RAW, **fields}))
        MultimodalRelationClassificationPipeline(model, make_processor(model.config), device="cpu")(question)
