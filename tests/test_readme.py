"""README.md tells the truth: its Python runs, its make targets, flags, configs and presets exist."""

import json
import os
import re
import subprocess
import sys

import pytest
from paths import ROOT
from PIL import Image

from modeling_vmhan import PRESETS
from vmhan.baselines import BASELINES
from vmhan.training.arguments import parse_arguments


README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_blocks_to_run():
    assert len(BLOCKS) >= 2


@pytest.fixture(scope="module")
def demo(make_model, make_processor, make_vision_config, tmp_path_factory):
    """A folder with outputs/demo as `make demo` leaves it, but of a tiny model that knows nothing."""
    place = tmp_path_factory.mktemp("readme")
    folder = place / "outputs" / "demo"
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    Image.effect_noise((64, 48), 90).save(folder / "example.png")
    pairs = [{"head": [0, 1], "tail": [2, 3], "tail_object": -1, "text_phrases": [], "objects": [0]}]
    post = {"id": "test-0", "tokens": ["Ann", "met", "Bob"], "image": "outputs/demo/example.png", "pairs": pairs}
    (folder / "example.json").write_text(json.dumps({**post, "boxes": [[0, 0, 9, 9]], "object_labels": ["sticker"]}))
    return place


def test_the_trained_model_answers_where_this_package_is_not_installed(demo, run_stranger):
    (block,) = [block for block in BLOCKS if "outputs/demo" in block]
    answers = run_stranger(f"import os\nos.chdir({str(demo)!r})\n{block}").splitlines()
    assert answers[-2].startswith("Ann -> Bob ") and "'mutual_information'" in answers[-1]
    assert Image.open(demo / "explanation.png").width > 100


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_python_blocks_run(block, demo, tmp_path):
    (tmp_path / "outputs").symlink_to(demo / "outputs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z]+)`", README)) | set(
        re.findall(r"^make ([a-z]+)", README, flags=re.MULTILINE)
    )
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_configs_and_presets_named_exist():
    configs = set(re.findall(r"\b(\w+\.yaml)\b", README))
    assert configs == {
        path.name for place in ("*", "accelerate/*") for path in (ROOT / "configs").glob(f"{place}.yaml")
    }
    row = next(line for line in README.splitlines() if "--preset" in line)
    assert set(re.findall(r"`(\w+)`", row)) == set(PRESETS)


def test_flags_named_are_flags_of_the_script(tmp_path):
    table = [line for line in README.splitlines() if line.startswith("| `--")]
    flags = [re.match(r"\| `(--\w+ \S+)`", line).group(1).split() for line in table]
    assert len(flags) >= 5
    for flag in flags:
        parse_arguments([*flag, "--output_dir", str(tmp_path)])


def test_the_baselines_named_are_those_there_are():
    section = README.split("### Baselines")[1].split("\n\n")[2]
    names = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines()]
    assert sorted(sum(names, [])) == sorted(BASELINES)


def test_no_placeholder_is_left():
    assert "@@" not in README
