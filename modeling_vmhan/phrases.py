"""Phrases of an image description or a sentence by rule, without any model.

Phrases are cut out the way RAKE finds its candidates: maximal runs of content words between punctuation and function
words (Rose, Engel, Cramer and Cowley, "Automatic Keyword Extraction from Individual Documents", in Berry and Kogan
(eds.), Text Mining: Applications and Theory, Wiley 2010, chapter 1).
"""

from collections.abc import Collection, Sequence
from typing import Any

import regex

from .words import RUN


__all__ = ["content_words", "noun_phrases", "token_phrases"]

MAX_WORDS = 6

# A word may hold inner apostrophes, hyphens, dots, slashes and ampersands: "man's", "close-up", "U.S", "pink/purple".
WORD = regex.compile(rf"{RUN}(?:['’.\-/&]{RUN})*", regex.VERSION1)
_MARKS = regex.compile(r"[\p{M}\u200C\u200D]+$")  # what may follow the last letter of a word

# Words that end a run. A closed list: change it only after reading the phrases of a few dozen real captions. In order:
# determiners and quantifiers; prepositions and particles; conjunctions and question words; pronouns; auxiliaries;
# adverbs that only qualify; what a describer says about describing ("the image shows a photo of").
_FUNCTION_WORDS = """
a an the this that these those some any each every either neither another other others both all several various
many much more most few such no same own different
of in on at by for from to with without into onto over under above below between among amongst amid amidst across
against along alongside around about behind before after beside besides beneath beyond during inside outside near
next off out through throughout toward towards up down upon via within like per as than away back forth together
apart underneath atop including aboard despite
and or but nor so yet if while whilst when where whereas which who whom whose what how why because since until
although though whether
i you he she it we they me him her us them his hers its their theirs our ours my mine your yours himself herself
itself themselves someone something everyone everything anyone anything there here
is are was were be been being am has have had having do does did doing can could may might must shall should will
would not isn't aren't doesn't appears appear appearing seems seem seeming
also very too just only even still possibly likely perhaps probably partially slightly mostly mainly primarily
clearly prominently directly closely then now rather quite almost
image images picture pictures photo photos photograph photographs shows show showing shown depicts depict depicting
depicted features feature featuring featured displays display displaying displayed contains contain containing
captures capturing captured describes indicates indicating suggests suggesting suggest reads says saying
stating states labeled titled called consists consisting include includes included wearing wears dressed visible
overlaid taken set surrounded filled facing located placed positioned arranged flanked
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

# A phrase made of these alone says nothing; as part of a longer one ("white background") they stay.
_EMPTY_WORDS = """
one two three first second background foreground scene scenes view side sides top bottom left right front center
middle text caption composition overlay setting collage part parts close-up shot appearance words word group row
sentence paragraph looking making being taking large small big tall long red blue green yellow black white gray
grey brown pink purple orange
"""
EMPTY_WORDS = frozenset(_EMPTY_WORDS.split())

# "Will Smith", "May 2018": with a capital these are names, as no caption begins with an auxiliary.
NAMES = frozenset({"Will", "May"})

# A present participle begins an action of its own: "tie | standing", "microphone | smiling". These are nouns instead.
_ING_NOUNS = """
building buildings ceiling clothing painting drawing evening morning wedding meeting king ring string thing wing
spring swing sling lighting parking railing awning boxing wrestling racing training sibling earring stocking
writing lettering marking crossing landing opening ending bowling fishing shopping swimming dining beijing boeing
sterling offspring bling helping living viking
"""
ING_NOUNS = frozenset(_ING_NOUNS.split())


# What no phrase of a sentence goes across beside function words: addresses, HTML entities, user names, "RT", "'s".
_NO_WORD = regex.compile(r"https?:|www\.|t\.co/|&#?\w+;|(?:amp|quot|[gl]t)$|@|RT$|['’]")


def noun_phrases(caption: str, limit: int | None = None) -> list[str]:
    """The first `limit` phrases (None: all) of an English caption: its maximal runs of content words, in order,
    verbatim, each once (compared without case).

    Punctuation and FUNCTION_WORDS end a run; a word in "-ing" that is not in ING_NOUNS and not capitalised begins a
    new one; a run is cut after every MAX_WORDS words; phrases made of EMPTY_WORDS (bare colours, "background") or of a
    single character are dropped. Verbs stay, since the paper's prompt asks for "entities and actions".

    Example:
        >>> noun_phrases("The image shows a man in a dark suit speaking into a microphone.")
        ['man', 'dark suit', 'speaking', 'microphone']
    """
    runs: list[list[regex.Match[str]]] = [[]]
    end = 0
    for word in WORD.finditer(caption):
        if caption[end : word.start()].strip() or _begins_action(word.group()):
            runs.append([])
        if _is_function_word(word.group()):
            runs.append([])
        else:
            runs[-1].append(word)
        end = word.end()
    phrases: dict[str, str] = {}
    for piece in _pieces(runs):
        phrase = caption[piece[0].start() : piece[-1].end()]
        if _says_something(phrase):
            phrases.setdefault(phrase.lower(), phrase)
    return list(phrases.values())[:limit]


def token_phrases(tokens: Sequence[str], *, blocked: Collection[int] = ()) -> list[tuple[int, int]]:
    """Spans [start, end) of the phrases of a sentence given as tokens, in order.

    The rules of `noun_phrases`, token by token: a run also ends at the indices `blocked` (such as those of the
    mentions), at a token without any word ("#", ","), at addresses, HTML entities, user names, "RT" and tokens like
    "'s".

    Example:
        >>> token_phrases("RT @a : David Bowie at Earls Court in London".split(), blocked={3, 4})
        [(6, 8), (9, 10)]
    """
    runs: list[list[int]] = [[]]
    for index, token in enumerate(tokens):
        if index in blocked or _NO_WORD.match(token) or not content_words(token):
            runs.append([])
            continue
        if not token[0].isalnum() or _begins_action(token):
            runs.append([])
        runs[-1].append(index)
        if not _MARKS.sub("", token)[-1].isalnum():
            runs.append([])
    spans = [(piece[0], piece[-1] + 1) for piece in _pieces(runs)]
    return [(start, end) for start, end in spans if _says_something(" ".join(tokens[start:end]))]


def content_words(text: str) -> set[str]:
    """The words of `text`, in lower case, that are no function words; to see what two texts share."""
    return {word.lower() for word in WORD.findall(text) if not _is_function_word(word)}


def _is_function_word(word: str) -> bool:
    return word.lower() in FUNCTION_WORDS and word not in NAMES


def _begins_action(word: str) -> bool:
    """Whether `word` is, by its form, a present participle; "Sterling" or "Beijing" is a name."""
    return len(word) > 4 and word.endswith("ing") and word.islower() and word not in ING_NOUNS


def _pieces(runs: list[list[Any]]) -> list[list[Any]]:
    """The runs, cut after every MAX_WORDS words."""
    return [run[first : first + MAX_WORDS] for run in runs for first in range(0, len(run), MAX_WORDS)]


def _says_something(phrase: str) -> bool:
    return len(phrase) > 1 and not content_words(phrase) <= EMPTY_WORDS
