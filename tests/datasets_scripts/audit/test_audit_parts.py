"""The parts of the audit, each alone: groups, held-out probes, intervals, and what is seen of a field."""

import datasets
import numpy as np
import pytest

from datasets_scripts.audit.checks import invariants
from datasets_scripts.audit.probe import Resampler, assign_folds, design_of, groups_of, predict_held_out
from datasets_scripts.audit.table import Column, ImageShape, PairTable, table_of_split
from datasets_scripts.audit.views import View, views_of, words_of
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph


def view(values, form="codes"):
    return View("field", "aspect", "structure", form, values)


def table(column, mentions):
    """A table of as many pairs as the column has values, one post each."""
    count = len(column.values)
    fields = {"labels": ["None", "peer"], "none_label": "None", "relation": np.resize([0, 1], count)}
    fields |= {"sentences": [(f"s{i}",) for i in range(count)], "images": [None] * count, "post": np.arange(count)}
    fields |= {"mentions": mentions or [("Ann", "Bob")] * count, "spans": [((0, 1), (1, 2))] * count}
    return PairTable(columns=[column], **fields)


def seen(column, mentions=None):
    """{aspect: View} of one column."""
    return {v.aspect: v for v in views_of(table(column, mentions))}


def test_groups_are_chains_of_shared_sentences_and_images():
    groups = groups_of(["a", "a", "b", "c", "d", "d"], ["1", "2", "2", "3", None, None])
    assert groups[0] == groups[1] == groups[2] and groups[4] == groups[5]
    assert len({groups[0], groups[3], groups[4]}) == 3 and sorted(set(groups)) == [0, 1, 2]
    assert len(set(groups_of(["1", "2"], ["2", "3"]))) == 2  # the sentence "2" is not the image "2"


def test_no_group_is_split_between_folds_and_folds_are_even():
    groups = np.repeat(np.arange(50), 3)
    folds = assign_folds(groups, 5, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(50))
    assert np.bincount(folds).tolist() == [30] * 5
    assert not np.array_equal(folds, assign_folds(groups, 5, seed=1))


def test_a_code_predicts_by_the_majority_worked_by_hand():
    """Fold 0 is predicted from fold 1 and the other way round; an unseen code gets the overall majority."""
    codes, labels, folds = ["x", "x", "y", "y", "z", "x"], np.array([1, 1, 0, 0, 2, 2]), np.array([0, 1] * 3)
    # Fold 1 has x: 1 and 2 (a tie, the lower id wins), y: 0; z unseen -> majority of (1, 0, 2) is 0.
    # Fold 0 has x: 1, y: 0, z: 2.
    assert predict_held_out(design_of(view(codes)), labels, folds, 0).tolist() == [1, 1, 0, 0, 0, 1]
    assert predict_held_out(None, labels, folds, 0).tolist() == [0] * 6


def test_a_memorised_id_counts_for_nothing():
    groups = np.repeat(np.arange(60), 2)
    labels = np.random.default_rng(0).integers(0, 2, 60)[groups]
    folds = assign_folds(groups, 5, 0)
    by_id = predict_held_out(design_of(view(groups.tolist())), labels, folds, 0)
    for fold in range(5):  # an id never seen gets the majority of the folds that were
        assert set(by_id[folds == fold]) == {np.bincount(labels[folds != fold]).argmax()}


def test_the_baseline_is_the_best_constant_even_where_labels_are_balanced():
    """The other folds' majority would be right in less than half of the pairs, and everything better than it."""
    labels = np.tile([0, 1], 50)
    folds = np.repeat([0, 1], 50)
    labels[0], labels[99] = 1, 0  # fold 0 has more 1, fold 1 more 0
    assert (predict_held_out(None, labels, folds, 0) == labels).mean() == 0.5


@pytest.mark.parametrize("form", ["codes", "numbers", "words", "characters", "vectors"])
def test_every_probe_finds_a_field_that_is_the_label(form):
    labels = np.tile([0, 1, 2], 40)
    texts = [["one dog", "two cats", "no bird"][label] for label in labels]
    numbers = np.stack([labels == 2, labels == 0, labels], axis=1).astype(float)
    values = {"codes": labels.tolist(), "words": texts, "characters": texts}.get(form, numbers)
    folds = assign_folds(np.arange(120), 5, 0)
    assert np.array_equal(predict_held_out(design_of(view(values, form)), labels, folds, 0), labels)


def test_words_are_those_of_any_script():
    assert words_of("Ann's ATM, कमला 王芳 🎉!") == ["ann", "s", "atm", "कमला", "王", "芳"]
    texts = ["a कमला", "a कमल", "x 王", "y 芳", "x", "y"]
    counts = design_of(view(texts, "words")).values
    assert counts.sum(axis=1).A1.tolist() == [1, 1, 1, 1, 0, 0] and len(set(counts.indices)) == 4


def test_a_constant_view_and_a_training_fold_of_one_label():
    assert design_of(view([3, 3])) is None and design_of(view(np.ones((2, 2)), "vectors")) is None
    labels, folds = np.array([1, 1, 0]), np.array([0, 0, 1])
    assert predict_held_out(design_of(view(np.eye(3), "vectors")), labels, folds, 0)[2] == 1


def test_share_is_the_part_of_the_errors_removed():
    resampler = Resampler(np.arange(100), 200, 0)
    baseline, right = np.arange(100) < 60, np.ones(100, bool)
    assert resampler.compare(right, baseline)["share"] == 1
    nothing = resampler.compare(baseline, baseline)
    assert (nothing["share"], nothing["share_interval"]) == (0, [0, 0])
    half = resampler.compare(np.arange(100) < 80, baseline)
    assert half["share"] == pytest.approx(0.5) and half["accuracy"] == 0.8
    low, high = half["share_interval"]
    assert low < 0.5 < high
    assert resampler.compare(right, right)["share"] == 0  # one label only: nothing to tell


def test_repeating_the_pairs_of_a_post_does_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    correct, baseline = rng.random(40) < 0.8, rng.random(40) < 0.5
    once = Resampler(np.arange(40), 500, 0).compare(correct, baseline)
    many = Resampler(np.repeat(np.arange(40), 9), 500, 0).compare(np.repeat(correct, 9), np.repeat(baseline, 9))
    assert many["share_interval"] == pytest.approx(once["share_interval"], abs=1e-6)


def test_the_pair_s_own_words_are_text_and_what_is_beyond_is_not():
    mentions = [("@Ann_Lee", "Walk of Fame"), ("RT @Bob", "Rome")]
    phrases = ["Ann Lee Walk of Fame person", "Bob Rome"]
    views = seen(Column("pairs.image_phrases", "pair", [[phrase] for phrase in phrases]), mentions=mentions)
    assert views["words beyond the pair's own, number"].values == [1, 0]
    assert views["words beyond the pair's own, as a code"].values == ["person", ""]
    assert views["words beyond the pair's own, as a code"].kind == "structure"
    assert views["words beyond the pair's own"].kind == "content"
    description = Column("pairs.image_phrases", "pair", [[f"a thing number{i}"] for i in range(100)])
    assert "words beyond the pair's own, as a code" not in seen(description)


TEXT = {"words", "words, number", "words, length", "words, as a code"}


@pytest.mark.parametrize(
    ("values", "aspects"),
    [
        ([None, None], {"present"}),
        ([[], None], {"count"}),
        (["a b", None], {"present"} | TEXT),
        ([["a", "b"], []], {"count"} | TEXT),
        ([1, None], {"value"}),
        ([True, False], {"value"}),
        ([[2, 0], []], {"count", "order"}),
        ([[[0, 2]], []], {"count", "length"}),
        ([[[0, 0, 2.0, 2]], None], {"count", "geometry"}),
        ([np.ones(3), None], {"present", "values"}),
        ([np.ones((2, 3)), np.ones((0, 3))], {"count", "values"}),
        ([ImageShape(2, 3, "PNG"), None], {"present", "size and format"}),
        ([{"a": 1}, None], {"present", "value"}),
    ],
)
def test_what_is_looked_at_of_each_sort_of_value(values, aspects):
    views = seen(Column("unknown", "post", values))
    assert set(views) == aspects
    assert all(v.kind == "structure" and len(v.values) == 2 for v in views.values())


def test_a_choice_of_none_counts_otherwise_than_no_choice():
    assert seen(Column("pairs.objects", "pair", [[1, 0], [], None]))["count"].values == [2, 0, -1]


def test_known_content_is_reported_only_and_its_shape_is_judged():
    views = seen(Column("boxes", "post", [[[0, 0, 2, 4], [2, 2, 4, 4]], []]))
    assert (views["count"].kind, views["count"].values) == ("structure", [2, 0])
    assert views["geometry"].kind == "content"
    assert views["geometry"].values.tolist() == [[2, 3, 2, 2.5, 8, 12], [-1] * 6]
    views = seen(Column("object_labels", "post", [["person", "dog"], []]))  # a detector's labels are codes by nature
    assert "words, as a code" not in views and views["words"].kind == "content"


def split_of(size, **columns):
    """The table of posts of one pair each with these columns; `size` is that of visual features."""
    post = new_post("a", ["Ann", "Bob"], "", [new_pair([0, 1], [1, 2], 0)])
    rows = [post | dict(zip(columns, values)) for values in zip(*columns.values())]
    features = post_features(["None"], images="image" in columns, visual_feature_size=size)
    return table_of_split(datasets.Dataset.from_list([with_hypergraph(row) for row in rows], features=features))


def test_feature_vectors_become_short_ones_that_keep_what_is_there():
    """None, no object and several objects, in one batch; equal vectors stay equal and different ones different."""
    one, other = np.linspace(0, 1, 32), np.linspace(1, 0, 32)
    split = split_of(32, image_features=[one, None, one], object_features=[[one, other], [], [other]])
    image, objects = split.column("image_features").values, split.column("object_features").values
    assert image[1] is None and np.allclose(image[0], image[2]) and image[0].shape == (48,)
    assert [len(of_post) for of_post in objects] == [2, 0, 1]
    assert np.allclose(objects[0][1], objects[2][0], atol=1e-5) and not np.allclose(objects[0][0], objects[0][1])


def test_images_are_looked_at_by_their_header_and_text_is_no_field(tmp_path):
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    split = split_of(None, image=[str(tmp_path / "junk.jpg"), None])
    assert split.column("image").values == [ImageShape(0, 0, "unreadable"), None] and split.images == [None, None]
    names = {column.name for column in split.columns}
    assert not names & {"tokens", "pairs.head", "pairs.tail", "pairs.relation", "pairs"}
    assert {"pairs.objects", "pairs.text_phrases", "row of the post", "pairs of the post"} <= names


def test_phrases_asked_for_each_pair_are_no_leak_and_objects_are_ranked_by_spans():
    def post(name, phrases, chosen, *heads):
        pairs = [new_pair([h, h + 1], [3, 4], 1, image_phrases=chosen, objects=[h % 2]) for h in heads]
        nodes = {"image_phrases": phrases, "object_labels": ["", ""], "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]]}
        return new_post(name, ["Ann", "Ann", "met", name], "a", pairs, **nodes)

    features = post_features(["None", "peer"], images=False, visual_feature_size=None)

    def broken(*posts):
        table = table_of_split(datasets.Dataset.from_list([*map(with_hypergraph, posts)], features=features))
        return {check.field for check in invariants(table) if check.violations}

    honest = post("Bob", ["a hand"], [0], 0, 1), post("Cid", ["a case", "a hand"], [1, 0], 0)
    assert broken(*honest) == set()  # of one image, and of one pair of words at two places
    assert broken(post("Bob", ["a hand"], [], 0), post("Cid", ["a case"], [], 0)) == {"image_phrases"}
    again = post("Bob", ["a case", "a hand"], [1], 0)  # the same phrase for the same words, at another index
    assert broken(honest[0], again) == set()
    assert broken(honest[0], post("Bob", ["a case", "a hand"], [0], 0)) == {"pairs.image_phrases"}


def test_the_members_of_a_pairs_hyperedges_are_counted_as_the_data_have_them():
    pairs = [new_pair([0, 1], [1, 2], 1), new_pair([1, 2], [0, 1], 0)]
    rows = [with_hypergraph(new_post(name, ["Ann", "Bob"], None, pairs)) for name in "ab"]
    rows[1]["hypergraph"]["pair_hyperedges"] = rows[1]["hypergraph"]["pair_hyperedges"][1:]
    features = post_features(["None", "peer"], images=False, visual_feature_size=None)
    columns = {name: [row[name] for row in rows] for name in features}
    column = table_of_split(datasets.Dataset.from_dict(columns, features=features)).column("pairs.hyperedges")
    assert column.values == [[2, 2, 0, 0, 0], [2, 2, 0, 0, 0], [0, 2, 0, 0, 0], [2, 2, 0, 0, 0]]
