"""README.md and the pages of docs/ tell the truth: their Python runs; their commands, flags and configs exist."""

import contextlib
import io
import json
import re
import shlex

import pytest
import torch
from paths import ROOT
from PIL import Image

from datasets_scripts.configs import CONFIGS, find_config
from modeling_vmhan import PRESETS
from modeling_vmhan.questions import read_question
from modeling_vmhan.values import PAIR, POST
from vmhan.baselines import BASELINES
from vmhan.cli import COMMANDS, main


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- run -->\n)?```(python|bash)\n(.*?)```", flags=re.DOTALL)
SCRIPTS = {"run_mmre.py": "train", "datasets_scripts.prepare": "prepare"}  # what accelerate launch starts


def blocks(page, language=None):
    """(language, whether a test runs it, code) of each block of a page, or of those in one language."""
    found = [(kind, bool(mark), code) for mark, kind, code in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if language in (None, block[0])]


def commands(code):
    """The commands of a bash block as lists of words; continued lines are joined, comments dropped."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.split("#")[0].strip()]


@pytest.fixture(scope="module")
def demo(make_model, make_processor, make_vision_config, tmp_path_factory):
    """A folder with outputs/demo as `make demo` leaves it, but of a tiny model that knows nothing."""
    place = tmp_path_factory.mktemp("docs")
    folder = place / "outputs" / "demo"
    raw = {"entity_representation": "packed", "mentions": True}
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8), **raw)
    with torch.no_grad():
        model.mention_head.output.bias[1] += 100.0  # each word is a mention
        model.classifier.bias[model.config.label2id["peer"]] += 100.0
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    Image.effect_noise((96, 96), 90).save(folder / "example.png")
    return place


@pytest.fixture
def here(demo, tmp_path, monkeypatch):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "demo").symlink_to(demo / "outputs" / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_in_its_order_and_so_do_its_marked_commands(page, here):
    names = {}
    for language, marked, code in blocks(page):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, str(page), "exec"), names)
            assert printed.getvalue().strip() or "import" not in code, code
        elif marked:
            for words in commands(code):
                assert words[0] == "vmhan" and main(words[1:]) == 0, words
    assert page.stem != "your-own-posts" or {"facts.csv", "facts.graphml", "answers.jsonl"} <= {
        path.name for path in here.iterdir()
    }


def test_the_answer_of_readme_comes_where_this_package_is_not_installed(demo, run_stranger):
    code = "".join(code for _, _, code in blocks(ROOT / "README.md", "python") if "pipe" in code)
    answers = run_stranger(f"import os\nos.chdir({str(demo)!r})\n{code}").splitlines()
    assert "Ann -> peer -> Keller 1.0" in answers
    assert answers[-1].startswith("peer ")
    assert Image.open(demo / "explanation.png").width > 100


@pytest.fixture(scope="module")
def help_of():
    """`help_of(command)`: what `vmhan COMMAND --help` prints."""
    known = {}

    def text(command):
        if command not in known:
            with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
                main([command, "--help"])
            known[command] = printed.getvalue()
        return known[command]

    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_flags_and_configurations_of_a_page_exist(page, help_of):
    for _, _, code in blocks(page, "bash"):
        for words in commands(code):
            command = words[1] if words[0] == "vmhan" else next((SCRIPTS[w] for w in words if w in SCRIPTS), None)
            if command is None:
                continue
            assert command in COMMANDS, words
            own = words[next((i for i, w in enumerate(words) if w in SCRIPTS), 1) + 1 :]
            own = own[: own.index("--")] if "--" in own else own
            for flag in (word for word in own if word.startswith("--") and "--evaluate" not in words):
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", help_of(command)), (flag, words)
            if command in ("train", "search", "prepare") and own and not own[0].startswith("-"):
                find_config(own[0], "prepare" if command == "prepare" else "")


def test_the_tables_name_all_presets_baselines_configurations_and_commands():
    def first_cells(page):
        lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
        cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
        return {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}

    assert set(PRESETS) <= first_cells("model.md")
    assert set(BASELINES) == first_cells("baselines.md")
    assert {path.stem for path in CONFIGS.glob("*.yaml")} - {"search_space"} <= first_cells("mnre-and-more.md")
    reference = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"<!-- help: (\S+) -->", reference) and set(COMMANDS) | {"vmhan"} == set(
        re.findall(r"<!-- help: (\S+) -->", reference)
    )


def test_every_key_of_a_post_and_of_a_pair_has_an_example_that_is_read():
    """A table for each, whose last cell is the key with a value, as JSON."""
    page = (ROOT / "docs" / "posts.md").read_text(encoding="utf-8")
    _, of_post, of_pair = re.split("## Keys of a p(?:ost|air)\n", page)
    post = {"text": "Ann met Bob in Paris", "head": "Ann", "tail": "Bob"}
    boxes = {"boxes": [[0, 0, 9, 9]], "image": "a.jpg", "image_phrases": ["car"]}
    for kinds, table in ((POST, of_post), (PAIR, of_pair.split("\n## ")[0])):
        rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
        assert {key for row in rows for key in re.findall(r"`(\w+)`", row[0])} == kinds.keys()
        for cells in rows:
            example = json.loads(f"{{{cells[-1].strip('`')}}}")
            assert example.keys() <= set(re.findall(r"`(\w+)`", cells[0])) and len(example) == 1
            pair = {**post, "tail": None if "tail_object" in example else "Bob", **(example if kinds is PAIR else {})}
            one = {"pairs": [{key: pair[key] for key in pair if key != "text"}]}
            of = one if kinds is PAIR else {} if example.keys() & {"pairs", "mentions"} else one
            asked = {"text": None if "tokens" in example else post["text"], **boxes, **of}
            read = read_question(asked if kinds is PAIR else {**asked, **example}).post
            assert example.keys() <= (read["pairs"][0] if kinds is PAIR else read).keys()


def test_make_targets_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))}
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)


def test_rows_shown_as_json_are_json():
    for page in PAGES:
        for code in re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            assert isinstance(json.loads(code), dict), page
