"""What a run asks for must be in its data: objects, text phrases, image phrases; and what nobody asks for is told."""

import json

import datasets
import pytest
import yaml

from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph
from vmhan.training import command, evaluate
from vmhan.training.arguments import ModelArguments, parse_arguments
from vmhan.training.building.baselines import baseline_fields
from vmhan.training.posts.data import load_posts
from vmhan.training.posts.node_numbers import node_numbers


NODES = {
    "num_objects": {"boxes": [[0.0, 0.0, 1.0, 1.0]], "object_labels": [""]},
    "num_text_phrases": {"pairs": [new_pair([0, 1], [1, 2], "None", text_phrases=[[0, 1]])]},
    "num_image_phrases": {"caption": "a cup"},
}


def posts(*, train=(), test=()):
    """Two posts a split; the second one has the nodes that are counted for these numbers."""
    columns = post_features(["None", "peer"], images=False, visual_feature_size=None)
    splits = datasets.DatasetDict()
    for split, names in (("train", train), ("test", test)):
        plain = new_post("0", ["Ann", "Bob"], None, [new_pair([0, 1], [1, 2], "None")])
        full = plain
        for name in names:
            full = full | NODES[name]
        splits[split] = datasets.Dataset.from_list([with_hypergraph(plain), with_hypergraph(full)], features=columns)
    return splits


@pytest.mark.parametrize("name", NODES)
def test_a_number_that_is_named_is_met_or_an_error_and_another_follows_the_data(name):
    others = dict.fromkeys(set(NODES) - {name}, 0)
    assert node_numbers({name: 2}, posts(train=[name]), sees_regions=True) == {name: 2, **others}
    assert node_numbers({}, posts(train=[name]), sees_regions=True) == others  # the configuration's own number
    assert node_numbers({name: 0}, posts(), sees_regions=True) == {name: 0, **others}
    with pytest.raises(ValueError, match=rf"--{name}: .*received 2, .*0 of the 2 posts .*train.*--{name} 0"):
        node_numbers({name: 2}, posts(test=[name]), sees_regions=True)


def test_objects_count_where_the_model_sees_them():
    with pytest.raises(ValueError, match="--num_objects: .*received 3"):
        node_numbers({"num_objects": 3}, posts(train=NODES), sees_regions=False)
    assert node_numbers({}, posts(train=NODES), sees_regions=False) == {"num_objects": 0}


def test_without_a_train_split_the_first_one_counts_and_a_stream_does_not():
    given = posts(test=["num_image_phrases"])
    only_test = datasets.DatasetDict(test=given["test"])
    assert node_numbers({"num_image_phrases": 1}, only_test, ["num_image_phrases"], sees_regions=True)
    stream = {"train": given["train"].to_iterable_dataset()}
    assert node_numbers({"num_objects": 3}, stream, sees_regions=True) == {"num_objects": 3}


def test_a_run_that_asks_for_what_postcards_lack_ends_before_it_trains(workplace, tmp_path):
    entries = yaml.safe_load((workplace / "tiny.yaml").read_text())
    without = {name: value for name, value in entries.items() if name not in ("features", "feature_size_px", "visual")}
    (tmp_path / "without.yaml").write_text(yaml.safe_dump(without))
    flags = [str(tmp_path / "without.yaml"), "--output_dir", str(tmp_path / "run"), "--num_objects", "2"]
    with pytest.raises(ValueError, match="--num_objects: .*received 2, and 0 of the 10 posts"):
        command.main(flags)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_baseline_s_numbers_are_those_that_it_reads():
    with pytest.raises(ValueError, match="--num_text_phrases: .*received 2"):
        baseline_fields(ModelArguments(model="mega", num_text_phrases=2), posts())
    fields = baseline_fields(ModelArguments(model="mega", num_image_phrases=2), posts(train=["num_text_phrases"]))
    assert (fields["num_objects"], fields["num_text_phrases"], "num_image_phrases" in fields) == (0, 3, False)


def test_an_evaluation_on_data_without_what_was_learned_of_needs_a_flag(workplace, finished, tmp_path):
    output, _ = finished
    config = json.loads((output / "config.json").read_text())
    assert (config["num_objects"], config["num_text_phrases"], config["num_image_phrases"]) == (3, 3, 3)
    tiny = [str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path / "again")]
    rows = load_posts(*parse_arguments(tiny)[1:])["test"]
    bare = rows.map(lambda post: {"pairs": [pair | {"text_phrases": []} for pair in post["pairs"]]})
    (tmp_path / "bare").mkdir()
    bare.to_parquet(tmp_path / "bare" / "test.parquet")
    flags = [str(output), *tiny, "--dataset", str(tmp_path / "bare"), "--features="]
    with pytest.raises(ValueError, match="--num_text_phrases: .*received 3, and 0 of the 4 posts of the test split"):
        evaluate.main(flags)
    assert "test_f1" in evaluate.main([*flags, "--num_text_phrases", "0"])
