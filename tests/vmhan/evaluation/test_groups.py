"""Groups of pairs worked by hand, and what they never look at."""

import pytest

from vmhan.evaluation.figures.groups import GROUPINGS


def row(post, head, tail, relation="None", predicted="None", head_span=(0, 1), tail_span=(2, 3), **fields):
    found = {"split": "test", "id": post, "head": head, "tail": tail, "relation": relation, "predicted": predicted}
    found |= {"head_span": list(head_span), "tail_span": tail_span and list(tail_span), "tail_object": -1}
    return found | fields


ROWS = [
    row("a", "Ann", "Oslo", "/per/loc/place_of_birth"),
    row("a", "Ann", "Bob", "/per/per/peer", tail_span=(0, 2)),
    row("a", "Bob", "Oslo", head_span=(4, 5)),
    row("b", "Paris", "Oslo", "/loc/misc/x"),
    row("b", "Oslo", "Paris"),
    row("c", "Oslo", "Oslo", "/org/loc/locate_at", head_span=(1, 3)),
    row("d", "Eve", "[object]", "/misc/misc/part_of", tail_span=None, tail_object=2),
]


def groups(name, rows=ROWS):
    return GROUPINGS[name].assign(rows, "None")


def test_repetition_counts_the_pairs_of_the_head_s_words_in_either_role():
    """Oslo is in five pairs, once as both; Ann, Bob and Paris in two, Eve in one."""
    assert groups("repetition") == ["2", "2", "2", "2", "3-5", "3-5", "1"]
    assert groups("repetition", ROWS * 3)[4:7] == ["6+", "6+", "3-5"]


def test_entity_types_come_from_gold_relations_in_either_role():
    """Oslo is a loc twice, a misc and an org; Bob a per by another pair's relation; none gives no type."""
    assert groups("entity types") == ["1", "1", "1", "1", "2+", "2+", "1"]
    assert groups("entity types", [row("a", "Ann", "Bob"), row("a", "Ann", "Cy", "peer")]) == [None, None]
    assert groups("entity types", [row("a", "राम", "दिल्ली", "/व्यक्ति/स्थान/निवास")]) == ["1"]  # in any script


def test_pairs_of_the_sentence():
    assert groups("pairs of the sentence") == ["3+", "3+", "3+", "2", "2", "1", "1"]


def test_overlap_and_order():
    assert groups("overlap") == ["apart", "overlapping", "apart", "apart", "apart", "overlapping", None]
    before, after = "head before tail", "head after tail"
    assert groups("order") == [before, before, after, before, before, before, None]
    old = [{name: value for name, value in ROWS[0].items() if not name.endswith("_span")}]
    assert groups("overlap", old) == groups("order", old) == [None]


@pytest.mark.parametrize("name", GROUPINGS)
def test_predictions_never_decide_and_groups_are_listed(name):
    other = [pair | {"predicted": "/per/per/peer"} for pair in ROWS]
    assert groups(name) == groups(name, other)
    assert set(groups(name)) - {None} <= set(GROUPINGS[name].groups)
