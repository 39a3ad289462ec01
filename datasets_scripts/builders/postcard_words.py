"""The words of a postcard: its names, and its sentence with the pairs. Relations are not known here."""

import random
from collections.abc import Sequence

from datasets_scripts.schema import new_pair


__all__ = ["TAIL_TYPES", "write_sentence"]

MAX_TAILS_OF_A_HEAD = 3
TAIL_TYPES = ("per", "org", "loc")

_FIRST_NAMES = """
    Anna Bruno Carla Dario Edda Farid Greta Hanno Ilse Jonas Katja Leo Marta Nils Olga Pavel Rosa Selim Tilda Ugo Vera
    Wanda Yusuf Zora Amina Boris Chen Dora Emil Freya Goran Hilde Ivan Jana Karim Lena Milan Nora Otto Petra Quentin
    Ruth Sven Tara Ulla Viktor Wim Xenia Yara Zeno
""".split()
_LAST_NAMES = """
    Keller Haas Voss Adler Brandt Conti Duarte Eriksen Fontana Grimm Holm Ibsen Jansen Kovacs Lindqvist Moreau Novak
    Okafor Pereira Quist Rossi Sato Tanaka Urban Vidal Weber Yilmaz Zeller Abbas Bauer Costa Dubois Egger Fischer
    Gruber Huber Ito Jovanovic Kramer Lang Meyer Nagel Olsen Petit Ricci Schmid Torres Ullman Vogel Winter
""".split()
_ORGANISATION_STEMS = """
    Nordwind Halden Solberg Astera Boreal Cobalt Delphin Evertree Falkon Granit Helios Indigo Jasper Kestrel Lumen
    Meridian Nimbus Orion Polaris Quarz Rivage Saffran Tellus Umbra Vesper Westbrook Xylon Zephyr Amberly Bluefjord
""".split()
_ORGANISATION_KINDS = "Works Museum Orchestra Bank Institute Press Rovers Foundation Airlines Brewery".split()
_PLACE_FIRSTS = "Upper Lower Old New North South East West Great Little".split()
_PLACE_STARTS = "Lin Mar Ober Sal Tor Wal Brem Cal Dor Es Fal Gren Har Ister Kal Lom Mon Nor Pel Ros".split()
_PLACE_ENDS = "dau burg stad mouth haven field berg brook ford minster".split()

_OPENINGS = ("", "Greetings !", "Look :", "On Sunday ,", "Dear all ,", "What a day !")
_VERBS = ("poses", "waves", "laughs", "sings", "stands", "eats cake", "smiles")
_CLAUSE_LINKS = (", while", ";", ", and")
_TAIL_LINKS = ("and", ",")
_CONNECTORS = {"per": ("beside", "next to", "behind"), "org": ("at the stand of", "outside"), "loc": ("near", "in")}
_REFERENCES = {  # what stands after a tail, by the kind of evidence
    "phrase": ("in {}", "wearing {}", "with the {} pin", "marked {}"),
    "text_phrase": ("see {}", "note {}"),
    "image_phrase": ("as shown", "as you see"),
    "pair": ("just like {}", "exactly as {}"),
    "same_head": ("as well", "likewise"),
}
_LETTERS = "abcdef"


def _draw_clauses(rng: random.Random, kinds: list[str]) -> list[int]:
    """How many tails each head gets: pairs that share a head stand in one clause. A pair of kind "same_head" shares it
    with the pair before, and with no other.
    """
    sizes: list[int] = []
    for kind, before, after in zip(kinds, ["", *kinds], [*kinds[1:], ""]):
        may_join = bool(sizes) and sizes[-1] < MAX_TAILS_OF_A_HEAD and rng.random() < 0.5
        if kind == "same_head" or (may_join and "same_head" not in (before, after)):
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes


def _draw_names(
    rng: random.Random, tail_types: list[str], colours: list[str | None], head_colours: list[str | None]
) -> tuple[list[str], list[str]]:
    """Distinct names for the heads (all people) and for the tails, of which some begin with a colour; no name tells
    anything else about a relation.
    """
    num_heads, num_tails = len(head_colours), len(tail_types)
    first, last = (rng.sample(names, num_heads + num_tails) for names in (_FIRST_NAMES, _LAST_NAMES))
    organisations = [rng.sample(names, num_tails) for names in (_ORGANISATION_STEMS, _ORGANISATION_KINDS)]
    starts = rng.sample(_PLACE_STARTS, num_tails)
    tails = []
    for i, (tail_type, colour) in enumerate(zip(tail_types, colours)):
        names = {
            "per": (first[num_heads + i], last[num_heads + i]),
            "org": (organisations[0][i], organisations[1][i]),
            "loc": (rng.choice(_PLACE_FIRSTS), starts[i] + rng.choice(_PLACE_ENDS)),
        }
        own, shared = names[tail_type]
        tails.append(f"{(colour or own).capitalize()} {shared}")
    firsts = [(colour or own).capitalize() for colour, own in zip(head_colours, first)]
    return [f"{a} {b}" for a, b in zip(firsts, last)], tails


def write_sentence(
    rng: random.Random,
    tail_types: list[str],
    kinds: list[str],
    words: list[str | int],
    head_colours: Sequence[str] = (),
) -> tuple[list[str], list[dict]]:
    """The sentence and its pairs, without relations.

    Every head's name begins with one of `head_colours`, if there are any.

    A pair of kind "tail" has the colour of its sticker, its entry of `words`, in the tail's name. After the other
    tails stands a phrase by their kind with their word: the colour, or the name of the pair that it is like, whose
    number `words` has. The word of a note stands at the sentence's end, under the letter that the phrase names. A
    pair's text phrase is its note, or the phrase after its tail.
    """
    sizes = _draw_clauses(rng, kinds)
    of_heads = [rng.choice(head_colours) if head_colours else None for _ in sizes]
    colours = [str(word) if kind == "tail" else None for kind, word in zip(kinds, words)]
    heads, tails = _draw_names(rng, tail_types, colours, of_heads)
    owners = [head for head, size in zip(heads, sizes) for _ in range(size)]  # of each pair
    letters = rng.sample(_LETTERS, len(_LETTERS))
    tokens: list[str] = []
    pairs: list[dict] = []

    def say(words: str) -> list[int]:
        start = len(tokens)
        tokens.extend(words.split())
        return [start, len(tokens)]

    say(rng.choice(_OPENINGS))
    for i, (tail_type, kind, word) in enumerate(zip(tail_types, kinds, words)):
        if i == 0 or owners[i] != owners[i - 1]:
            say(rng.choice(_CLAUSE_LINKS) if i else "")
            head = say(owners[i])
            say(rng.choice(_VERBS))
        else:
            say(rng.choice(_TAIL_LINKS))
        say(rng.choice(_CONNECTORS[tail_type]))
        tail = say(tails[i])
        pairs.append(new_pair(head, tail, text_phrases=[]))
        if kind != "tail":
            named = {"phrase": word, "text_phrase": letters[i], "pair": tails[word if kind == "pair" else i]}.get(kind)
            pairs[i]["text_phrases"] = [say(rng.choice(_REFERENCES[kind]).format(named))]
    notes = [i for i, kind in enumerate(kinds) if kind == "text_phrase"]
    say(". PS :" if notes else ".")
    for i in rng.sample(notes, len(notes)):
        pairs[i]["text_phrases"] = [say(f"{letters[i]} {words[i]}")]
    return tokens, pairs
