"""A prepared folder: what is in it, that it loads with no code, and what wrong flags and odd places make of it."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer
from huggingface_hub import DatasetCard
from PIL import Image
from prepare_fakes import FEATURE_SIZE, ColourFeatures, make_fakes, write_posts
from prepare_runs import ALL, lines, load, run
from published_files import write_mnre

from datasets_scripts.builders.building import build, visual_feature_description
from datasets_scripts.builders.jsonl import Posts
from datasets_scripts.leaks import ORDER_BLIND, leak_status, protocol_of
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.assemble import check_output
from datasets_scripts.prepare.command import main
from datasets_scripts.prepare.plan import make_tools
from modeling_vmhan.hyperedges import hypergraph_of
from modeling_vmhan.selection import moved_indices, rank_objects


FIGURES = ["contact_sheet.jpg", "hypergraph.png", "objects_an_image.png", "pairs_a_post.png", "relations.png"]


def fakes(**fields):
    return make_fakes(PrepareArguments(source="jsonl", output_dir="x", **(ALL | fields)), None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(output folder, tools): seven posts in two splits about three images; one is in both splits, one has none."""
    folder, tools = tmp_path_factory.mktemp("made") / "mine", fakes()
    write_posts(folder, images=3, train=[0, 1, 0, None, 1], validation=[2, 0])
    return run(folder, tools, shard_size=2, figures=True, **ALL), tools


@pytest.fixture(scope="module")
def output(made):
    return made[0]


@pytest.fixture
def folder(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    return tmp_path / "mine"


def test_the_folder_loads_with_posts_images_objects_and_features(output):
    posts = load(output)
    assert {split: len(rows) for split, rows in posts.items()} == {"train": 5, "validation": 2}
    first, without = posts["train"][0], posts["train"][3]
    assert first["image"].size == (40, 30) and first["image"].mode == "RGB"
    assert first["boxes"] == [[2, 3, 12, 13], [20, 5, 28, 13]] and first["object_labels"] == ["red", "green"]
    vectors = next(ColourFeatures().extract([(first["image"], first["boxes"])]))
    np.testing.assert_array_equal(np.float16(first["image_features"]), vectors[0])
    np.testing.assert_array_equal(np.float16(first["object_features"]), vectors[1])
    assert (without["image"], without["image_features"]) == (None, None)
    assert without["boxes"] == without["object_features"] == []
    assert posts["train"].features["image_features"].length == FEATURE_SIZE
    assert posts["train"].features["pairs"].feature["relation"].names == ["None", "peer"]
    assert [post["pairs"][0]["relation"] for post in posts["train"]] == [1, 0, 1, 0, 1]
    assert visual_feature_description(posts) == ColourFeatures.description


def test_each_image_is_seen_once_and_all_its_posts_have_its_features_and_boxes(made):
    output, tools = made
    assert tools.extractor.passes == 3 and len(tools.detector.seen) == 3
    assert tools.detector.queries[0] == ["Ann", "Bob"]  # no phrases about the image: the mentions
    posts = load(output)
    for name in ("boxes", "image_features", "object_features"):
        first, other, again = posts["train"][name][:3]
        assert first == again == posts["validation"][name][1]
        assert first != other or name == "object_features"  # blobs of the same colours


def test_the_shards_stream_in_order(output):
    names = [f"train-0000{i}-of-00003.parquet" for i in range(3)] + ["validation-00000-of-00001.parquet"]
    assert sorted(path.name for path in (output / "jsonl").iterdir()) == names
    streamed = list(load(output, split="train", streaming=True))
    assert [post["id"] for post in streamed] == [f"train-{i}" for i in range(5)]
    assert streamed[1]["image"].size == (40, 30) and len(streamed[1]["image_features"]) == FEATURE_SIZE


def test_statistics_and_card_are_the_data_s(output):
    train = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert {
        "posts": 5, "posts_with_image": 4, "images": 2, "pairs": 5, "relations": {"None": 2, "peer": 3},
        "pairs_a_post": {"1": 5}, "objects_an_image": {"2": 2}, "object_labels": {"green": 2, "red": 2},
    }.items() <= train.items()  # fmt: skip
    card = DatasetCard.load(output / "README.md")
    assert card.data.license == "unknown" and card.data.configs[0]["config_name"] == "jsonl"
    cells = [[cell.strip() for cell in line.split("|")] for line in card.text.splitlines()]
    assert ["", "train", "5", "4", "5", "2", "2.00", "1.00", "0.00", "0.80", ""] in cells
    assert ["", "1", "`peer`", "3", "1", ""] in cells and "6 numbers" in card.text
    assert "--source jsonl --data_dir DATA_DIR" in card.text and '"weights": "none"' in card.text


def test_provenance_names_inputs_tools_and_files_and_nothing_of_this_machine(output):
    provenance = json.loads((output / "provenance.json").read_text())
    names = [file["name"] for file in provenance["inputs"]["files"]]
    assert names == ["labels.json", "train.jsonl", "validation.jsonl"]
    assert provenance["inputs"]["images"]["count"] == 3 and provenance["detector"] == {"adapter": "blobs"}
    assert set(provenance["files"]) == {f"jsonl/{path.name}" for path in (output / "jsonl").iterdir()}
    for path in filter(Path.is_file, output.rglob("*")):
        assert str(output.parent).encode() not in path.read_bytes(), path


def test_no_file_has_a_password_or_a_key(folder, tmp_path):
    secret = {"base_url": "http://ann:s3cret@host/v1?key=s3cret", "parameters": {"api_key": "s3cret", "max_tokens": 5}}
    options = {"selector": "first", "selector_options": json.dumps(secret), "detector": "x:http://s3cret@host"}
    output = run(folder, output_dir=str(tmp_path / "out"), **options)
    for path in filter(Path.is_file, output.rglob("*")):
        assert b"s3cret" not in path.read_bytes(), path
    kept = json.loads(json.loads((output / "provenance.json").read_text())["options"]["selector_options"])
    assert kept == {"base_url": "http://host/v1?...", "parameters": {"api_key": "...", "max_tokens": 5}}


def test_figures_are_drawn_and_images_may_stay_out(output, folder):
    assert sorted(path.name for path in (output / "figures").iterdir()) == FIGURES
    for name in FIGURES:
        with Image.open(output / "figures" / name) as figure:
            assert min(figure.size) > 50
        assert f"(figures/{name})" in (output / "README.md").read_text()
    without = run(folder, embed_images=False, figures=True, **ALL)
    post = load(without)["train"][0]
    assert "image" not in post and len(post["object_features"]) == 2
    assert sorted(path.name for path in (without / "figures").iterdir()) == FIGURES[1:]


def test_a_selector_never_sees_a_relation_and_what_the_source_chose_stays(tmp_path):
    pair = {"head": "Ann", "tail": "Bob", "relation": "peer", "text_phrases": ["met"]}
    write_posts(tmp_path / "mine", images=1, train=[0, None], pairs=[pair], image_phrases=["a wall"])
    tools = fakes()
    output = run(tmp_path / "mine", tools, **ALL)
    assert not any("relation" in pair for post in tools.selector.posts for pair in post["pairs"])
    assert tools.selector.posts[0]["object_scores"] == pytest.approx([100 / 1200, 64 / 1200])
    assert tools.detector.queries == [["a wall"]]
    first, second = load(output)["train"]
    assert first["pairs"][0]["text_phrases"] == [[1, 2]] and first["pairs"][0]["objects"] == [0]
    assert second["pairs"][0]["objects"] == []
    (empty,) = lines(output / "empty_nodes.jsonl")
    assert empty.pop("reason") and empty == {"split": "train", "id": "train-1", "pair": 0, "field": "objects"}
    write_posts(tmp_path / "boxed", images=1, train=[0], boxes=[[1, 1, 9, 9]], object_labels=["mine"])
    tools = fakes()
    post = load(run(tmp_path / "boxed", tools, output_dir=str(tmp_path / "of_boxed"), **ALL))["train"][0]
    assert (post["boxes"], post["object_labels"], tools.detector.seen) == ([[1, 1, 9, 9]], ["mine"], [])
    assert post["object_scores"] is None


def test_object_scores_of_the_source_are_kept_and_decide(tmp_path):
    scores = [0.25, 0.75, 0.5]
    write_posts(tmp_path / "mine", images=2, train=[0], boxes=[[1, 1, 9, 9], [1, 1, 3, 3], [2, 2, 5, 5]])
    rows = tmp_path / "mine" / "train.jsonl"
    with_scores = json.loads(rows.read_text()) | {"image": "1.png", "object_scores": scores}
    rows.write_text(rows.read_text() + json.dumps(with_scores) + "\n")
    of_source = build(Posts, config_name="jsonl", data_dir=tmp_path / "mine")["train"]
    for posts in (of_source, load(run(tmp_path / "mine"))["train"]):
        assert posts["object_scores"][:] == [None, scores]
        assert [rank_objects(post, post["pairs"][0]) for post in posts] == [[0, 2, 1], [1, 2, 0]]


@pytest.mark.parametrize(("selector", "filled"), [("none", [None] * 3), ("first", [[[0, 1]], [0], [0]])])
def test_a_choice_of_none_is_kept_in_parquet_and_no_selector_fills_it(selector, filled, tmp_path):
    asked, pair = ("text_phrases", "image_phrases", "objects"), {"head": "Ann", "tail": "Bob", "relation": "peer"}
    fields = {"pairs": [pair, pair | dict.fromkeys(asked, [])], "image_phrases": ["a wall"], "boxes": [[1, 1, 9, 9]]}
    write_posts(tmp_path / "mine", images=1, train=[0], **fields)
    first, second = load(run(tmp_path / "mine", selector=selector))["train"][0]["pairs"]
    assert [first[name] for name in asked] == filled and [second[name] for name in asked] == [[], [], []]


def test_the_hypergraph_is_made_of_what_was_found_and_chosen_and_a_bad_image_is_no_node(output, folder):
    for post in load(output)["train"]:
        assert post["hypergraph"] == hypergraph_of(post)
        assert any(node["kind"] == "image" for node in post["hypergraph"]["nodes"]) == (post["image"] is not None)
    (folder / "images" / "0.png").write_bytes(b"no picture")
    bad = run(folder, embed_images=False, on_bad_image="skip_image")
    kinds = {node["kind"] for node in load(bad)["train"][0]["hypergraph"]["nodes"]}
    assert kinds == {"mention", "pair"}


def test_phrases_that_the_source_chose_are_the_same_ones_after_repetitions_are_gone(tmp_path):
    pair = {"head": "Ann", "tail": "Bob", "relation": "peer", "image_phrases": [3, 2]}
    phrases = ["a dog", "A  dog", "red car", "sky"]
    write_posts(tmp_path / "mine", images=1, train=[0], pairs=[pair], image_phrases=phrases)
    post = load(run(tmp_path / "mine", selector="first"))["train"][0]
    assert post["image_phrases"] == ["a dog", "red car", "sky"]
    assert [post["image_phrases"][i] for i in post["pairs"][0]["image_phrases"]] == ["sky", "red car"]
    assert moved_indices([-1, 1, 0], ["a dog", "A dog"], ["a dog"]) == [-1, 0]


def test_posts_without_any_image(tmp_path):
    write_mnre(tmp_path / "mine", num_posts=2)
    output = run(tmp_path / "mine", source="mnre", figures=True)
    counted = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert (counted["posts"], counted["posts_with_image"], counted["images"]) == (2, 0, 0)
    assert counted["objects_an_image"] == {} and "image_features" not in load(output, "mnre")["train"].features
    for tool, name in (("detector", "blobs"), ("features", "colours")):
        with pytest.raises(ValueError, match=f"{tool}: .*images"):
            run(tmp_path / "mine", source="mnre", **{tool: name})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "mnist"}, "source: .*jsonl.* 'mnist'"),
        ({"on_bad_image": "ignore"}, "on_bad_image: .*skip_post.* 'ignore'"),
        ({"max_side": 3}, "max_side: .* 32.* 3"),
        ({"detector_options": "[1]"}, r"detector_options: .*'\[1\]'"),
        ({"feature_options": "{"}, "feature_options: .*'{'"),
        ({"feature_options": '{"size": 64}'}, "feature_options: expected features .* without features"),
        ({"max_objects": 3}, "max_objects: expected detector .* 3 with detector 'none'"),
        ({"selector_options": '{"a": 1}', "selector": "none"}, "selector_options: expected selector"),
        ({"ray_address": "auto"}, "ray_address: expected engine ray, .*'processes'"),
        ({"private": True}, "private: expected push_to_hub .*True"),
        ({"captions": "qwen"}, r"config_fields: .*\['captions'\]"),
        ({"figures": True}, r"figures: .*matplotlib.*--figures false"),
    ],
)
def test_wrong_arguments(folder, monkeypatch, fields, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises((ValueError, ImportError), match=message):
        run(folder, **fields)


def test_a_configuration_that_is_not_there():
    with pytest.raises(ValueError, match="'mnre_papr'.*did you mean 'mnre_paper'"):
        main(["mnre_papr"])


def test_tools_get_their_own_words_and_the_device(monkeypatch):
    """A selector in this process gets the device, and others do not; a detector's own words say `max_objects`."""
    asked = {}
    for name in ("nodes.selection.make_selector", "detection.detectors.make_detector"):
        monkeypatch.setattr(f"datasets_scripts.{name}", lambda spec, **options: asked.update({spec: options}))
    for fields in (
        {"selector": "transformers:a,b", "detector": "x:y?max_objects=5"},
        {"selector": "openai:m@http://x", "detector": "x:y?weights=z", "max_objects": 7},
        {"selector": "transformers:a", "selector_options": '{"device": "cpu"}'},
    ):
        make_tools(PrepareArguments(source="jsonl", output_dir="x", **fields), "cuda:1")
    assert asked == {
        "transformers:a,b": {"device": "cuda:1"},
        "openai:m@http://x": {},
        "transformers:a": {"device": "cpu"},
        "x:y?max_objects=5": {"device": "cuda:1"},
        "x:y?weights=z": {"device": "cuda:1", "max_objects": 7},
    }


def test_another_s_folder_is_not_replaced_and_a_link_stays_one(folder, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    output = run(folder, output_dir=str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink() and (output / "provenance.json").is_file()
    (output / "provenance.json").unlink()
    (tmp_path / "file").touch()
    for place in (output, tmp_path / "file"):
        with pytest.raises(ValueError, match=f"output_dir: .*{place}.*provenance.json"):
            run(folder, output_dir=str(place))
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(ValueError, match=f"output_dir: .*{tmp_path}.*disk"):
        check_output(tmp_path)


def test_the_protocol_travels_with_the_folder(folder):
    output = run(folder, order_blind=True, symmetric_relations=["peer"], features="colours", push_to_hub=None)
    assert protocol_of(load(output)) == ORDER_BLIND and visual_feature_description(load(output))
    card = (output / "README.md").read_text()
    assert f"Protocol: {ORDER_BLIND}" in card and "--order_blind True --symmetric_relations peer" in card


def test_what_gives_labels_away_is_marked_and_not_pushed(folder, monkeypatch):
    for module in ("command", "card"):
        monkeypatch.setattr(f"datasets_scripts.prepare.{module}.leak_status", lambda source: ["objects by line."])
    output = run(folder)
    assert "> - objects by line." in (output / "README.md").read_text()
    assert leak_status(load(output)) == ["objects by line."]
    with pytest.raises(ValueError, match="push_to_hub: .*objects by line. .*--allow_leaky true"):
        run(folder, push_to_hub="me/mine")
    assert run(folder, push_to_hub="me/mine", allow_leaky=True) == output


def test_the_command_draws_postcards_and_pushes_the_finished_folder_in_one_commit(tmp_path, monkeypatch):
    with HubServer() as hub:
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        flags = "--source postcards --num_train 3 --num_validation 1 --num_test 1 --shard_size 2 --selector none"
        flags += f" --config_name small --figures false --license cc0-1.0 --output_dir {tmp_path / 'cards'}"
        flags += " --push_to_hub ann/cards --private true"
        output = main(flags.split())
        assert not (tmp_path / ".cards.prepare").exists()
        posts = load(output, "small")
        assert len(posts["train"]) == 3 and posts["train"][0]["pairs"][0]["objects"]
        repo = hub.repos["dataset", "ann/cards"]
        assert repo.private and len(repo.commits) == 2  # the first one made it
        paths = filter(Path.is_file, output.rglob("*"))
        assert repo.files == {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}
        main(flags.split())
        assert len(repo.commits) == 2  # it was finished and there
        main(flags.replace("--shard_size 2", "--shard_size 9").split())
        assert sum(name.endswith(".parquet") for name in repo.files) == 3  # no shard of the first upload stays
