"""Finders by name: spaCy and GLiNER behind modules of their form, and what is said without them."""

import sys
from types import SimpleNamespace

import pytest

from vmhan.inference import mention_finders
from vmhan.inference.mention_finders import GLINER_LABELS, find_mention_finder


TEXT = "Ann met Oslo in 2019"


@pytest.fixture
def spacy(monkeypatch):
    """A module with spaCy's `load`, whose pipeline finds a person, a place whose last letter is cut, and a date."""
    entities = [
        SimpleNamespace(start_char=start, end_char=end, label_=label)
        for start, end, label in [(0, 3, "PERSON"), (8, 11, "GPE"), (16, 20, "DATE")]
    ]
    loaded = []
    load = lambda name: loaded.append(name) or (lambda text: SimpleNamespace(ents=entities))  # noqa: E731
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))
    return loaded


@pytest.fixture
def gliner(monkeypatch):
    """A module with gliner's `GLiNER`; `asked` has what its model was asked."""
    asked = []

    class GLiNER:
        @classmethod
        def from_pretrained(cls, name):
            asked.append(name)
            return cls()

        def predict_entities(self, text, labels, threshold):
            asked.append((text, labels, threshold))
            return [{"start": 8, "end": 12, "text": text[8:12], "label": labels[-1], "score": 0.7}]

    monkeypatch.setitem(sys.modules, "gliner", SimpleNamespace(GLiNER=GLiNER))
    return asked


def test_spacy_gives_entities_that_are_no_numbers(spacy):
    assert find_mention_finder("spacy:en_core_web_sm")(TEXT) == [(0, 3, "per", 1.0), (8, 12, "loc", 1.0)]
    assert spacy == ["en_core_web_sm"]


@pytest.mark.parametrize(
    "name,model,labels",
    [
        ("gliner:org/model", "org/model", list(GLINER_LABELS)),
        ("gliner:org/model:person, band", "org/model", ["person", "band"]),
    ],
)
def test_gliner_is_asked_for_labels(name, model, labels, gliner):
    assert find_mention_finder(name)(TEXT) == [(8, 12, labels[-1].replace("miscellaneous", "misc"), 0.7)]
    assert gliner == [model, (TEXT, labels, 0.5)]


@pytest.mark.parametrize("name", ["spacy", "gliner"])
def test_what_is_not_installed_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"mentions.*vmhan\[{name}\]"):
        find_mention_finder(f"{name}:anything")


def test_any_other_name_is_a_token_classification_model(monkeypatch):
    monkeypatch.setattr(mention_finders, "token_classification_finder", lambda name: name)
    assert find_mention_finder("org/ner:x") == "org/ner:x"


def test_spacy_itself(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spacy is not installed")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": "Ann"}, {"label": "DATE", "pattern": "2019"}]
    )
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(spacy, "load", lambda name: nlp)
        assert find_mention_finder("spacy:x")(TEXT) == [(0, 3, "per", 1.0)]
