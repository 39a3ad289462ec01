"""What chose objects and phrases is a line of a data set's info, which a prepared folder keeps."""

import datasets
import pytest
from prepare_fakes import write_posts
from prepare_runs import load, run
from published_files import write_mnre

from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.leaks import OFFICIAL, protocol_of
from datasets_scripts.recipes import mark_recipe, recipe_of, recorded_name, recorded_selector


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        ("heuristic", "heuristic"),
        ("spacy:en_core_web_sm", "spacy:en_core_web_sm"),
        ("spacy:/home/ann/pipeline", "spacy:pipeline"),
        ("openai:llama3,llava@http://ann:pw@host/v1", "llm:llama3,llava"),
        ("openai:llama3@http://x/v1,a/llava@http://y/v1", "llm:llama3,a/llava"),
        ("transformers:/home/ann/vlm", "llm:vlm"),
    ],
)
def test_a_selector_is_recorded_without_addresses_and_folders(spec, recorded):
    assert recorded_selector(spec) == recorded


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        (
            "torchvision:fasterrcnn_resnet50_fpn_v2?max_objects=5",
            "torchvision:fasterrcnn_resnet50_fpn_v2?max_objects=5",
        ),
        ("transformers:facebook/detr-resnet-50", "transformers:facebook/detr-resnet-50"),
        ("ultralytics:/home/ann/yolo.pt", "ultralytics:yolo.pt"),
    ],
)
def test_a_detector_is_recorded_as_it_can_be_made_again(spec, recorded):
    assert recorded_name(spec) == recorded


def test_marks_add_up_and_leave_the_description():
    info = datasets.DatasetInfo(description="Posts\nprotocol: x")
    mark_recipe(info, selector=None)
    assert recipe_of(info) is None and info.description == "Posts\nprotocol: x"
    mark_recipe(info, selector="heuristic")
    mark_recipe(info, detector="a:b", caption_phrases=0, selector=None)
    assert recipe_of(info) == {"selector": "heuristic", "detector": "a:b", "caption_phrases": 0}
    assert info.description.startswith("Posts\nprotocol: x\n") and protocol_of(info) == "x"
    with pytest.raises(ValueError, match="received str"):
        recipe_of("posts")


@pytest.mark.parametrize(
    ("fields", "recipe"),
    [
        ({}, None),
        ({"selector": "heuristic"}, {"selector": "heuristic"}),
        ({"captions": "made"}, {"caption_phrases": "all"}),
        (
            {"captions": "made", "max_phrases": 2, "selector": "heuristic"},
            {"selector": "heuristic", "caption_phrases": 2},
        ),
    ],
)
def test_builders_record_what_they_use(fields, recipe, tmp_path):
    write_mnre(tmp_path, num_posts=2)
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "made_train.txt").write_text("{'img_id': '0.jpg', 'text': 'a red car at night'}\n")
    posts = build(MNRE, config_name="mnre", data_dir=tmp_path, cache_dir=tmp_path / "cache", **fields)
    assert recipe_of(posts) == recipe and protocol_of(posts) == OFFICIAL


def test_a_prepared_folder_keeps_the_recipe_and_the_scores(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    posts = load(run(tmp_path / "mine", detector="blobs", max_objects=4, detector_options='{"api_key": "k"}'))
    recipe = {"detector": "blobs", "detector_options": {"max_objects": 4, "api_key": "..."}}
    assert recipe_of(posts) == recipe
    (post,) = posts["train"]
    assert len(post["object_scores"]) == len(post["boxes"]) > 0
    plain = load(run(tmp_path / "mine", output_dir=str(tmp_path / "plain" / "out")))
    assert recipe_of(plain) is None and "object_scores" not in plain["train"].column_names
