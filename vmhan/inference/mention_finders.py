"""What finds the mentions of a raw post beside the model's own head, by name: spaCy, GLiNER or a transformers model.

A finder is a function of a text that returns `Mention`s, spans of its characters; the pipeline's option `mentions`
takes any.
"""

import argparse
from typing import Any

from modeling_vmhan.mention_finders import MentionFinder, of_whole_words, token_classification_finder
from modeling_vmhan.mentions import Mention


__all__ = ["FINDERS", "GLINER_LABELS", "OF_FACTS", "find_mention_finder", "gliner_finder", "options_of_facts"]
__all__ += ["spacy_finder"]

SPACY, GLINER = "spacy:", "gliner:"
OF_FACTS = ("mentions", "min_score", "min_precision", "all_pairs")  # options of the pipeline
FINDERS = "spacy:PIPELINE, gliner:MODEL[:LABEL,LABEL], or a token classification model"
GLINER_LABELS = ("person", "organization", "location", "miscellaneous")
GLINER_THRESHOLD = 0.5  # GLiNER's own
# What OntoNotes marks beside the named entities.
NUMBERS = frozenset("DATE TIME PERCENT MONEY QUANTITY ORDINAL CARDINAL".split())


def find_mention_finder(name: str) -> MentionFinder:
    """The finder "spacy:PIPELINE", "gliner:MODEL" or "gliner:MODEL:LABEL,LABEL"; any other name is that of a token
    classification model, a folder or on the Hub. ImportError without the library, OSError without the model.

    Example:
        pipe(post, mentions=find_mention_finder("spacy:en_core_web_sm"))
    """
    if name.startswith(SPACY):
        return spacy_finder(name.removeprefix(SPACY))
    if name.startswith(GLINER):
        model, _, labels = name.removeprefix(GLINER).partition(":")
        return gliner_finder(model, *(label.strip() for label in labels.split(",") if label.strip()))
    return token_classification_finder(name)


def options_of_facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of OF_FACTS that are given, with the finder in the place of its name."""
    options = {name: value for name in OF_FACTS if (value := getattr(arguments, name)) is not None}
    return options | ({"mentions": find_mention_finder(options["mentions"])} if "mentions" in options else {})


def spacy_finder(pipeline: str) -> MentionFinder:
    """The named entities of a spaCy pipeline, whose dates and numbers are left out. spaCy has no scores: each is 1."""
    try:
        import spacy
    except ImportError as error:
        raise ImportError('mentions: spaCy is not installed: pip install "vmhan[spacy]"') from error
    nlp = spacy.load(pipeline)

    def find(text: str) -> list[Mention]:
        entities = [entity for entity in nlp(text).ents if entity.label_ not in NUMBERS]
        return of_whole_words([Mention(of.start_char, of.end_char, of.label_) for of in entities], text)

    return find


def gliner_finder(model: str, *labels: str) -> MentionFinder:
    """What a GLiNER model finds of these types, by default GLINER_LABELS, each with its score."""
    try:
        from gliner import GLiNER
    except ImportError as error:
        raise ImportError('mentions: GLiNER is not installed: pip install "vmhan[gliner]"') from error
    loaded, asked = GLiNER.from_pretrained(model), list(labels or GLINER_LABELS)

    def find(text: str) -> list[Mention]:
        found: list[dict[str, Any]] = loaded.predict_entities(text, asked, threshold=GLINER_THRESHOLD)
        mentions = [Mention(of["start"], of["end"], of["label"], float(of["score"])) for of in found]
        return of_whole_words(mentions, text)

    return find
