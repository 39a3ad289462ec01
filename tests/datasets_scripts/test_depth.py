"""Depth maps of objects: what a box's map holds, and a preparation with --depth and what MOREformer makes of it."""

import datasets
import pytest
import torch
from PIL import Image
from prepare_fakes import make_fakes, write_posts
from prepare_runs import load
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from datasets_scripts.audit.views import CONTENT
from datasets_scripts.depth import DepthEstimator
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from datasets_scripts.prepare.plan import Tools


@pytest.fixture(scope="module")
def dpt(tmp_path_factory):
    """The folder of a tiny DPT with random weights."""
    folder = tmp_path_factory.mktemp("dpt")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    necks = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    torch.manual_seed(0)
    DPTForDepthEstimation(DPTConfig(image_size=32, patch_size=8, **sizes, **necks)).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_box_has_the_mean_depths_of_its_64_parts(dpt, monkeypatch):
    """A ramp from 5 at the left to 45 at the right of 40 pixels: 0 to 1 of the image, whatever its unit."""
    estimator = DepthEstimator(str(dpt))
    ramp = torch.linspace(5, 45, 40).expand(32, 40)
    monkeypatch.setattr(estimator, "_estimate", lambda image: {"predicted_depth": ramp})
    whole, part = estimator.object_depths(Image.new("RGB", (40, 32)), [[0, 0, 40, 32], [8, 8, 16, 24]])
    columns = torch.linspace(0, 1, 40).view(8, 5).mean(dim=1)  # eighths of the width, five pixels each
    torch.testing.assert_close(torch.tensor(whole).view(8, 8), columns.expand(8, 8), atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.tensor(part).view(8, 8)[0], torch.linspace(0, 1, 40)[8:16], atol=1e-5, rtol=0)
    assert estimator.object_depths(Image.new("RGB", (40, 32)), []) == []


def test_a_flat_picture_has_no_depth(dpt, monkeypatch):
    estimator = DepthEstimator(str(dpt))
    monkeypatch.setattr(estimator, "_estimate", lambda image: {"predicted_depth": torch.full((4, 4), 3.0)})
    assert set(estimator.object_depths(Image.new("RGB", (4, 4)), [[0, 0, 2, 2]])[0]) == {0}


def make_tools(arguments, device):
    fakes = make_fakes(arguments, device)
    depth = DepthEstimator(arguments.depth, device) if arguments.depth else None
    return Tools(fakes.detector, fakes.selector, fakes.extractor, depth)


def test_a_preparation_gives_each_object_its_depths(dpt, tmp_path):
    write_posts(folder := tmp_path / "mine", images=2, train=[0, None, 1])
    fields = {"source": "jsonl", "data_dir": str(folder), "output_dir": str(tmp_path / "out"), "figures": False}
    fields |= {"detector": "blobs", "features": "colours", "selector": "none"}
    output = prepare(PrepareArguments(**fields, depth=str(dpt)), make_tools=make_tools)
    posts = load(output)["train"]
    assert posts.features["object_depths"] == datasets.List(datasets.List(datasets.Value("float16"), length=64))
    estimator = DepthEstimator(str(dpt))
    for post in posts:
        expected = estimator.object_depths(post["image"], post["boxes"]) if post["image"] else []
        torch.testing.assert_close(torch.tensor(post["object_depths"]), torch.tensor(expected), atol=1e-3, rtol=0)
    assert len(posts[0]["object_depths"]) == 2 and len(set(posts[0]["object_depths"][0])) > 1
    card = (output / "README.md").read_text()
    assert "**Depth**" in card and estimator.description["weights_sha256"] in card and "`object_depths`" in card
    assert "object_depths" in CONTENT
    plain = load(prepare(PrepareArguments(**fields | {"output_dir": str(tmp_path / "plain")}), make_tools=make_tools))
    assert "object_depths" not in plain["train"].features
    assert "**Depth**" not in (tmp_path / "plain" / "README.md").read_text()


def test_depth_needs_images(dpt, tmp_path):
    write_posts(folder := tmp_path / "mine", images=0, train=[None])
    arguments = PrepareArguments(
        source="jsonl", data_dir=str(folder), output_dir=str(tmp_path / "out"), selector="none", depth=str(dpt)
    )
    with pytest.raises(ValueError, match="depth: .*images, found none"):
        prepare(arguments, make_tools=make_tools)
