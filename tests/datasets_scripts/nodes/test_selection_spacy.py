"""spaCy's noun chunks as text phrases. Skipped but for the last when the extra `spacy` is not installed."""

import sys

import pytest
from selection_posts import make_post, words

from datasets_scripts.nodes.selection import make_selector


@pytest.fixture
def parser(monkeypatch):
    """The pipeline "chunks", whose noun chunks are runs of words with a capital; no model is needed."""
    spacy = pytest.importorskip("spacy")

    def parse(doc):
        for token in doc:
            token.pos_ = "PROPN" if token.text[0].isupper() else "VERB" if token.text.islower() else "PUNCT"
        for token in doc:  # a run of names has its last one for a head, which is the sentence's subject
            is_inner = token.i + 1 < len(doc) and token.pos_ == doc[token.i + 1].pos_ == "PROPN"
            token.head, token.dep_ = (doc[token.i + 1], "compound") if is_inner else (token, "nsubj")
        return doc

    pipeline = spacy.blank("en")
    spacy.Language.component("chunks", func=parse)
    pipeline.add_pipe("chunks")
    monkeypatch.setattr(spacy, "load", {"chunks": pipeline}.__getitem__)


def test_text_phrases_are_the_noun_chunks_without_a_mention(parser):
    post = make_post()
    selector = make_selector("spacy:chunks", num_text_phrases=9)
    first, second = selector.select(post)  # David Bowie and Earls Court; London and David Bowie
    assert words(post, first.text_phrases) == ["Reuters", "London", "Gus Stewart"]
    assert words(post, second.text_phrases) == ["Earls Court", "Reuters", "Gus Stewart"]
    assert first.objects == make_selector("heuristic").select(post)[0].objects
    assert selector.description["selector"] == "spacy" and selector.description["pipeline"].startswith("en_pipeline ")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"vmhan\[spacy\]"):
        make_selector("spacy:en_core_web_sm")
