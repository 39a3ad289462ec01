"""Selection by rule, the merging of selections into posts, and that no selector can know a label."""

import copy

import pytest
from paths import MNRE_DATA
from selection_posts import Blind, make_post, words

from datasets_scripts.builders.mnre import MNRE_LABELS, read_facts
from datasets_scripts.nodes.pairs import FIELDS, PairSelection
from datasets_scripts.nodes.selection import apply_selections, make_selector, select_posts
from datasets_scripts.nodes.selection_heuristic import HeuristicSelector
from datasets_scripts.schema import group_into_posts


REAL = MNRE_DATA / "mnre_txt" / "mnre_val .txt"


def test_text_phrases_are_outside_the_mentions_and_the_closest_first():
    post = make_post()
    first, second = HeuristicSelector(num_text_phrases=9).select(post)
    assert words(post, first.text_phrases) == ["sings", "Reuters", "London", "Gus Stewart"]
    assert words(post, second.text_phrases) == ["Earls Court", "sings", "Reuters", "Gus Stewart"]
    repeated = {"tokens": "Gig : Ann plays the gig at Oslo".split(), "pairs": [{"head": [2, 3], "tail": [7, 8]}]}
    assert HeuristicSelector().select(repeated)[0].text_phrases == [(3, 4), (5, 6)]  # once, where it is closest


def test_image_phrases_by_shared_words_then_in_order():
    first, second = HeuristicSelector(num_image_phrases=3).select(make_post())
    assert first.image_phrases == ["old David", "a stage", "bright lights"]
    assert second.image_phrases == ["old David", "London skyline", "a stage"]


def test_objects_by_the_pair_s_words_then_its_phrases_then_score_then_size():
    first, second = HeuristicSelector(num_objects=5).select(make_post())
    assert first.objects == [3, 2, 1, 4, 0]  # Bowie knife, court: mentions, the larger one first; then the larger ones
    assert second.objects == [3, 2, 1, 4, 0]  # Bowie knife: mention; court: phrase "Earls Court"
    scored = HeuristicSelector(num_objects=5).select(make_post(object_scores=[0.1, 0.5, 0.2, 0.3, 0.5]))
    assert scored[0].objects == [3, 2, 1, 4, 0]
    scored = HeuristicSelector(num_objects=5).select(make_post(object_scores=[0.1, 0.2, 0.4, 0.3, 0.5]))
    assert scored[0].objects == [2, 3, 4, 1, 0]


def test_a_tail_object_lends_its_label_and_is_not_chosen():
    post = make_post(pairs=[{"head": [9, 10], "tail": [], "tail_object": 2, "relation": 1}])
    (selection,) = HeuristicSelector(num_objects=9, num_text_phrases=9).select(post)
    assert 2 not in selection.objects and len(selection.objects) == 4
    assert words(post, selection.text_phrases)[0] == "Earls Court"  # only the head's distance counts
    post["object_labels"][3] = "tennis court"
    assert HeuristicSelector().select(post)[0].objects[0] == 3


def test_numbers_limit_and_nothing_is_made_up():
    none = HeuristicSelector(num_text_phrases=0, num_image_phrases=0, num_objects=0).select(make_post())[0]
    assert none == PairSelection()
    bare = {"tokens": ["Ann", ",", "Bob"], "pairs": [{"head": [0, 1], "tail": [2, 3]}]}
    (selection,) = HeuristicSelector().select(bare)
    assert selection == PairSelection(reasons=selection.reasons) and set(selection.reasons) == set(FIELDS)
    for labels in ([], [None] * 5):
        assert HeuristicSelector().select(make_post(object_labels=labels))[0].objects == [3, 1, 2]  # the largest ones


def test_what_is_chosen_depends_on_the_words_and_the_image_alone():
    post, selector = make_post(), HeuristicSelector()
    chosen = selector.select(post)
    blind = [Blind(pair | {"relation": 22}) for pair in post["pairs"]]
    assert selector.select(post | {"pairs": blind}) == chosen
    assert selector.select(post | {"pairs": post["pairs"][1:], "id": "test-9", "image_id": "other"}) == chosen[1:]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        *((spec, {}, f"spec: .*received '{spec}'") for spec in ("", "gpt", "openai", "openai:", "heuristic:3")),
        ("heuristic", {"k": 3}, r"options: .*'num_objects'.* 'heuristic', received \['k'\]"),
        *(("heuristic", {"num_objects": value}, f"num_objects: .*received {value}") for value in (-1, 1.5, True)),
    ],
)
def test_bad_selectors_by_rule(spec, options, message):
    with pytest.raises(ValueError, match=message):
        make_selector(spec, **options)
    for field in ("object_labels", "object_scores"):
        with pytest.raises(ValueError, match=f"post 'train-0', {field}: .* 5 boxes, received 1"):
            HeuristicSelector().select(make_post(**{field: [1]}))


def test_selections_join_the_post():
    post = make_post()
    before = copy.deepcopy(post)
    first = PairSelection([(4, 5)], ["BRIGHT  lights", "a band", "A band"], [3, 1], {"objects": "left out 9: why"})
    second = PairSelection([], ["a guitar", "a stage"], [], {"text_phrases": "none", "objects": "no"})
    joined, reasons = apply_selections(post, [first, second])
    assert post == before
    chosen = (
        {"text_phrases": [[4, 5]], "image_phrases": [2, 4], "objects": [3, 1]},
        {"text_phrases": [], "image_phrases": [5, 0], "objects": []},
    )
    phrases = [*post["image_phrases"], "a band", "a guitar"]
    pairs = [pair | fields for pair, fields in zip(post["pairs"], chosen)]
    assert joined == post | {"image_phrases": phrases, "pairs": pairs}
    given = [(0, "objects", "left out 9: why"), (1, "text_phrases", "none"), (1, "objects", "no")]
    assert reasons == [dict(zip(("pair", "field", "reason"), reason)) for reason in given]
    assert apply_selections(joined, [first, second])[0] == joined


def test_the_processor_takes_a_post_with_selections(make_processor, make_config):
    post = make_post(image_features=[0.0] * 8, object_features=[[0.0] * 8] * 5)
    selected, _ = apply_selections(post, HeuristicSelector(num_image_phrases=2).select(post))
    inputs = make_processor(make_config())(selected)
    assert inputs["pair_objects"].tolist() == [pair["objects"] for pair in selected["pairs"]]
    assert (inputs["text_phrase_tokens"][:, 0] >= 0).any()


def test_posts_go_in_windows_of_pairs_and_come_back_in_order():
    posts = [make_post(id=str(number), pairs=make_post()["pairs"][: 1 + number % 2]) for number in range(7)]
    selector, taken = HeuristicSelector(), []
    selector.window = 5
    results = select_posts(selector, ((post, taken.append(post)) for post in posts))
    first = next(results)
    assert len(taken) == 4  # pairs: 1 + 2 + 1 + 2
    assert [first, *results] == [HeuristicSelector().select(post) for post in posts]
    assert list(select_posts(selector, [])) == []


@pytest.mark.skipif(not REAL.is_file(), reason=f"no real sentences at {REAL}")
def test_real_sentences():
    posts = group_into_posts(read_facts(REAL, labels=MNRE_LABELS))
    chosen = []
    for (tokens, _), pairs in posts.items():
        for pair, selection in zip(pairs, HeuristicSelector().select({"tokens": tokens, "pairs": pairs}), strict=True):
            mentions = {token for name in ("head", "tail") for token in range(*pair[name])}
            for start, end in selection.text_phrases or []:
                assert 0 <= start < end <= len(tokens) and mentions.isdisjoint(range(start, end))
            chosen.append(selection.text_phrases)
    assert len(chosen) == 1624 and sum(map(bool, chosen)) > 0.9 * 1624
