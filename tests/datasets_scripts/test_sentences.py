"""Training and asking read the same tokens of the same sentence, whatever the tokenizer makes of white space."""

import json
import logging
import random
import re

import datasets
import pytest
from tiny import WORDS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from datasets_scripts.builders.building import build
from datasets_scripts.builders.jsonl import Posts
from datasets_scripts.builders.mentions import Sentence
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from datasets_scripts.schema import has_text
from modeling_vmhan import VMHANProcessor
from modeling_vmhan.posts import sentence_of
from modeling_vmhan.questions import read_question


PIECES = """
    Ann's dog, #Oslo @bob_b don't (U.S.) https://t.co/x?y=1 co-op RT &amp; "q" ’tis a A\u0301nn José naïve
    🎉 👩\u200d👩\u200d👧 👍🏽 🇳🇴 i\u0307 ß ﬁn №5 ½ ... —
    王芳出生在上海 ประเทศไทย राम دبي שָׁלוֹם 한국어 e\u0301\u0302 [SEP] <s> [E1] ▁ Ġ ##a
""".split()
SPACES = [" ", " ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", " \u200b "]
BEFORE, AFTER = ["", "", "#", "@", "(", '"', "“", "..."], ["", "", "'s", ",", "!", ")", "’s", "…", "/x", "-y"]


def sentence(generator):
    """(text, {role: the mention, or its span of characters}); mentions are glued to signs, as people write them."""
    words = generator.choices(PIECES, k=generator.randrange(8))
    for mention in ("Zed", "Quo Vadis"):
        words.insert(generator.randrange(len(words) + 1), generator.choice(BEFORE) + mention + generator.choice(AFTER))
    text = generator.choice(["", "", " ", "\n", "  "])
    text += "".join(word + generator.choice(SPACES) for word in words)
    text = text if generator.random() < 0.5 else text.rstrip()
    pair = {}
    for role, mention in zip(("head", "tail"), generator.sample(["Zed", "Quo Vadis"], 2)):
        start = text.index(mention)
        pair[role] = mention if generator.random() < 0.5 else [start, start + len(mention)]
    return text, pair


def sentences(count):
    generator = random.Random(17)
    return [sentence(generator) for _ in range(count)]


@pytest.fixture(scope="module")
def unigram_tokenizer():
    """Like sentencepiece's: white space becomes a sign of the word after it, which the first word has, too."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\t", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([" ".join([*WORDS, *PIECES])] * 3, trainer)
    ids = [(name, backend.token_to_id(name)) for name in special[:2]]
    template = {"single": "<s> $A </s>", "pair": "<s> $A </s> $B </s>", "special_tokens": ids}
    backend.post_processor = processors.TemplateProcessing(**template)
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in names.items()}
    )


@pytest.fixture(params=["tokenizer", "roberta_tokenizer", "unigram_tokenizer"])
def processor(request):
    return VMHANProcessor(request.getfixturevalue(request.param), visual_feature_size=0, max_length=256)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of 500 sentences, these, and the posts that were built of it: at once, and by way of Parquet."""
    folder, given = tmp_path_factory.mktemp("mine"), sentences(500)
    rows = [{"text": text, "pairs": [pair | {"relation": "None"}]} for text, pair in given]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    built = build(Posts, config_name="jsonl", data_dir=folder, cache_dir=folder / "cache")["train"]
    output = prepare(
        PrepareArguments(source="jsonl", data_dir=str(folder), output_dir=str(folder / "out"), figures=False)
    )
    prepared = datasets.load_dataset(str(output), "jsonl", split="train", cache_dir=str(folder / "cache"))
    return folder, given, built, prepared


def test_a_trained_post_has_the_inputs_of_the_question(processor, written):
    _, given, built, prepared = written
    for (text, pair), *posts in zip(given, built, prepared, strict=True):
        asked = processor.encode(read_question({"text": text, **pair}, None).post, "asked")
        for post in posts:
            trained = processor.encode(post | {"pairs": [post["pairs"][0] | {"text_phrases": []}]}, "trained")
            assert trained.rows == asked.rows, text
            assert trained.pairs[0].entities == asked.pairs[0].entities, text
        unit_text, units = sentence_of(post)
        assert unit_text == text and [text[start:end] for start, end in units] == post["tokens"]


@pytest.mark.parametrize("mode", ["marker", "span", "packed"])
@pytest.mark.parametrize("spaces", [" ", "  ", "\n", "\u200b"])
@pytest.mark.parametrize("processor", ["tokenizer", "roberta_tokenizer", "unigram_tokenizer"], indirect=True)
def test_so_has_a_sentence_that_is_longer_than_a_window(processor, mode, spaces):
    processor = VMHANProcessor(processor.tokenizer, visual_feature_size=0, max_length=96, entity_representation=mode)
    words = ["it's"] * 50 + ["@Zed's", "#Quo", "Vadis,"] + ["(so)"] * 50
    text = f" {spaces.join(words)}\n"
    sentence = Sentence(text=text)
    spans = {role: sentence.span(mention, place="", field="") for role, mention in (("head", "Zed"), ("tail", "Quo"))}
    trained = processor.encode({"text": text, "tokens": sentence.tokens, "pairs": [spans]}, "trained")
    asked = processor.encode(read_question({"text": text, "head": "Zed", "tail": "Quo"}, None).post, "asked")
    assert trained.rows == asked.rows and trained.pairs[0].entities == asked.pairs[0].entities
    assert len(trained.rows[0]["input_ids"]) >= 90


def test_joined_tokens_would_have_other_ones(written, roberta_tokenizer):
    """Which is why the text is kept."""
    processor = VMHANProcessor(roberta_tokenizer, visual_feature_size=0, max_length=256)
    post = next(post for post in written[3] if "Zed's" in post["text"])
    assert processor.encode(post, "p").rows != processor.encode(post | {"text": None}, "p").rows


def test_csv_keeps_its_text_and_two_sentences_of_the_same_words_are_two_posts(tmp_path):
    lines = ["text,head,tail,relation", *(f"{text},Ann,Bob,None" for text in ("Ann's Bob", "Ann 's Bob", "Ann's Bob"))]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    posts = build(Posts, config_name="jsonl", data_dir=tmp_path, cache_dir=tmp_path / "cache")["train"]
    assert posts["text"][:] == ["Ann's Bob", "Ann 's Bob"] and [len(pairs) for pairs in posts["pairs"]] == [2, 1]
    assert posts["tokens"][0] == posts["tokens"][1] and has_text(posts)


def test_data_of_tokens_alone_are_prepared_without_the_column(tmp_path, written):
    row = {"tokens": ["Ann", "'s", "Bob"], "pairs": [{"head": "Ann", "tail": "Bob", "relation": "None"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    built = build(Posts, config_name="jsonl", data_dir=tmp_path, cache_dir=tmp_path / "cache")["train"]
    assert built["text"][:] == [None] and not has_text(built)
    output = prepare(
        PrepareArguments(source="jsonl", data_dir=str(tmp_path), output_dir=str(tmp_path / "out"), figures=False)
    )
    prepared = datasets.load_dataset(str(output), "jsonl", split="train", cache_dir=str(tmp_path / "cache"))
    assert "text" not in prepared.column_names and not has_text(prepared)
    assert not has_text(prepared.to_iterable_dataset()) and has_text(written[3].to_iterable_dataset())


TEXT = {"text": "Ann's dog, in #Oslo"}
TOKENS = {"tokens": ["Ann", "'", "s", "dog", ",", "in", "#", "Oslo"]}
PLAIN = {"text": "Ann met Bob"}


@pytest.mark.parametrize(
    ("trained_on", "question", "cuts", "message"),
    [
        ("tokens", TEXT, True, "post 'q'.*trained on tokens, received text.*token 3 on .*\\['Ġ', .*Give tokens"),
        ("text", TOKENS, True, "post 'q'.*trained on text, received tokens.*Give text"),
        ("tokens", TEXT, False, None),  # BERT's tokenizer does not look at white space
        ("text", TOKENS, False, None),
        ("tokens", TOKENS | TEXT, True, None),  # reads the tokens
        ("text", TOKENS | TEXT, True, None),
        ("tokens", PLAIN, True, None),
        ("text", TEXT, True, None),
        ("tokens", TOKENS, True, None),
        (None, TEXT, True, None),
        (None, TOKENS, True, None),
    ],
)
def test_one_warning_of_a_sentence_that_is_cut_otherwise_than_in_training(
    trained_on, question, cuts, message, tokenizer, roberta_tokenizer, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    made = VMHANProcessor(roberta_tokenizer if cuts else tokenizer, visual_feature_size=0, trained_on=trained_on)
    made.save_pretrained(tmp_path)
    processor = VMHANProcessor.from_pretrained(tmp_path)
    for _ in range(3):
        tail = "Bob" if question is PLAIN else "Oslo"
        post = read_question({"id": "q", "head": "Ann", "tail": tail, **question}, None)
        processor.encode(post.post, post.name)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (message is not None)
    assert all(re.search(message, warning) for warning in warnings), warnings


def test_a_model_of_tokens_reads_the_tokens_where_both_are_given(roberta_tokenizer):
    pairs = {"pairs": [{"head": (0, 1), "tail": (7, 8)}]}
    rows = {
        kind: VMHANProcessor(roberta_tokenizer, visual_feature_size=0, trained_on=kind).encode(
            TEXT | TOKENS | pairs, "p"
        )
        for kind in ("tokens", "text")
    }
    plain = VMHANProcessor(roberta_tokenizer, visual_feature_size=0)
    assert rows["tokens"] == plain.encode(TOKENS | pairs, "p")
    assert rows["text"] == plain.encode(TEXT | {"pairs": [{"head": (0, 3), "tail": (15, 19)}]}, "p")


def test_trained_on_is_text_or_tokens(tokenizer):
    with pytest.raises(ValueError, match="trained_on must be .*'tokens'.*received 'words'"):
        VMHANProcessor(tokenizer, trained_on="words")
