"""The real Hub client against a Hub on 127.0.0.1: published folders come back whole, failures publish nothing.

Clients run in processes of their own, because huggingface_hub reads its environment when it is imported.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from hub_server import FIRST_COMMIT, File, Repo
from paths import ROOT
from prepare_fakes import write_posts
from tiny import AUTO_MAP

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from model_cards.cards import write_model_card
from model_cards.publishing import publishable_files
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from vmhan import cli


# The client waits between its attempts; here it does not.
PUBLISH = """
import sys, time
time.sleep = lambda seconds: None
from vmhan.cli import main
sys.exit(main(["publish", *sys.argv[1:]]))
"""
# A machine that has never seen this package: everything comes from the repository.
STRANGER = """
import json, re, sys
sys.modules.update(dict.fromkeys(("modeling_vmhan", "datasets_scripts", "model_cards", "run_mmre")))  # not importable

import torch
from huggingface_hub import HfApi, snapshot_download
from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

repo_id, posts = sys.argv[1], json.load(open(sys.argv[2]))
trusted = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(repo_id, **trusted)
answer = {}
for auto in (AutoModelForSequenceClassification, AutoModel):
    model = auto.from_pretrained(repo_id, **trusted)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    with torch.no_grad():
        answer[auto.__name__] = model(**processor(posts)).logits.tolist()
answer["labels"] = model.config.labels
card = open(snapshot_download(repo_id) + "/README.md").read()
for block in re.findall(r"```python\\n(.*?)```", card, flags=re.DOTALL):
    exec(block, {})
question = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}
tag = HfApi().model_info(repo_id).pipeline_tag
by_name, by_tag = pipeline(model=repo_id, **trusted), pipeline(tag, model=repo_id, **trusted)
answer["tag"], answer["same"] = tag, by_name(question) == by_tag(question)
print(json.dumps(answer))
"""
SAVE = """
import sys
from transformers import pipeline
pipe = pipeline(model=sys.argv[1], trust_remote_code=True)
pipe.save_pretrained(sys.argv[2], push_to_hub=True, repo_id="ann/saved")
"""
READER = """
import json, sys
from datasets import load_dataset

repo_id = sys.argv[1]
posts = load_dataset(repo_id, "tiny")
stream = load_dataset(repo_id, "tiny", split="train", streaming=True)
rows = [{**row, "image": row["image"].size} for row in posts["train"]]
streamed = [{**row, "image": row["image"].size} for row in stream]
unnamed = load_dataset(repo_id)["train"]["id"][:]
print(json.dumps({"splits": list(posts), "rows": rows, "streamed": streamed, "unnamed": unnamed}))
"""


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    """`client(code, *arguments)` runs Python code as a user of this Hub; returns the finished process."""
    home = tmp_path_factory.mktemp("home")

    def run(code, *arguments, token="hf_fake", package=True):
        environment = hub.environment(home, token) | ({"PYTHONPATH": str(ROOT)} if package else {})
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, timeout=300)

    return run


@pytest.fixture(scope="module")
def folder(make_model, make_processor, write_run_files, tmp_path_factory):
    """A finished output folder, with what must not be published beside what must."""
    folder = tmp_path_factory.mktemp("output") / "tiny"
    model, earlier = make_model(), folder.parent / "earlier"  # loaded from a folder, as after a search or fine-tuning
    model.config.auto_map = dict(AUTO_MAP)
    model.save_pretrained(earlier)
    make_processor(model.config).save_pretrained(earlier)
    for auto in (VMHANForRelationClassification, VMHANProcessor):
        auto.from_pretrained(earlier).save_pretrained(folder)
    write_run_files(folder)
    write_model_card(folder)
    for name in ("training_args.bin", "optimizer.pt", "example.png", "predictions.jsonl", "checkpoint-1/README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x80")
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-1")
    (folder / "figures").mkdir()
    (folder / "figures" / "reliability.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def published(hub, client, folder):
    """The repository after `vmhan publish FOLDER ann/tiny`."""
    done = client(PUBLISH, folder, "ann/tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    repo = hub.repos["model", "ann/tiny"]
    assert done.stdout.strip() == f"{hub.url}/ann/tiny/commit/{repo.head}"
    return repo


@pytest.fixture
def attempt(hub, client, folder):
    """`attempt(repo_id)` publishes where it must fail; returns (what it said, the repository or None)."""

    def publish(repo_id, *flags, token="hf_fake", code=PUBLISH):
        done = client(code, folder, repo_id, *flags, token=token)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
        return done.stderr, hub.repos.get(("model", repo_id))

    return publish


def test_what_is_published_is_the_model_and_nothing_else(published, folder):
    files = published.files
    code = {path.name for path in folder.glob("*.py")}
    assert {"modeling_vmhan.py", "configuration_vmhan.py", "processing_vmhan.py"} <= code
    assert set(files) == code | {
        "config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
        "requirements.txt", "metrics.json", "README.md", "figures/reliability.png",
    }  # fmt: skip
    assert all(files[name] == (folder / name).read_bytes() for name in files if name != "README.md")
    local = [str(path).encode() for path in (folder.parents[1], ROOT, Path.home())]
    assert not any(path in content for path in local for content in files.values())
    assert len(published.commits) == 2 and next(iter(published.commits)) == FIRST_COMMIT
    repositories = re.findall(r'^repo_id = "(.*)"$', files["README.md"].decode(), flags=re.MULTILINE)
    assert repositories == ["ann/tiny", "ann/tiny"]


def test_a_stranger_loads_it_by_its_name_and_predicts(published, client, posts, predict, make_model, tmp_path):
    (tmp_path / "posts.json").write_text(json.dumps(posts()))
    done = client(STRANGER, "ann/tiny", tmp_path / "posts.json", package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    *_, from_model, from_pipeline, answer = done.stdout.splitlines()
    answer, model = json.loads(answer), make_model()
    for name in ("AutoModelForSequenceClassification", "AutoModel"):
        torch.testing.assert_close(torch.tensor(answer[name]), predict(model, posts()), atol=1e-5, rtol=0)
    assert answer["labels"] == model.config.labels and from_model.split()[0] in model.config.labels
    assert from_pipeline.startswith("{'head': 'Ann Keller', 'tail': 'Oslo', 'relation': ")
    assert answer["tag"] == "multimodal-relation-classification" and answer["same"]


def test_publishing_again_changes_nothing_unless_predictions_are_asked_for_too(published, client, folder):
    head = published.head
    assert client(PUBLISH, folder, "ann/tiny").stdout.strip().endswith(f"/ann/tiny/commit/{head}")
    assert published.head == head and (folder / "README.md").read_bytes() == published.files["README.md"]
    assert {*publishable_files(folder, predictions=True)} == {*published.files, "predictions.jsonl"}


def test_what_a_pipeline_saves_and_pushes_is_complete(hub, client, folder, tmp_path):
    done = client(SAVE, folder, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(hub.repos["model", "ann/saved"].files) >= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "requirements.txt").is_file()


def test_weights_of_an_earlier_push_do_not_stay(hub, client, folder):
    repo = hub.repos["model", "ann/resharded"] = Repo("ann/resharded")
    old = {"model-00001-of-00002.safetensors", "notes/x.safetensors", "a.md"}
    repo.commit(dict.fromkeys(old, File(b"old", is_lfs=False)))
    assert client(PUBLISH, folder, "ann/resharded").returncode == 0
    assert old - set(repo.files) == {"model-00001-of-00002.safetensors"} and len(repo.commits) == 3


def test_a_dry_run_lists_the_files_and_a_wrong_card_is_refused_before_anybody_is_asked(
    published, hub, folder, tmp_path, capsys
):
    before = len(hub.requests)
    assert cli.main(["publish", str(folder), "ann/dry", "--dry_run"]) == 0
    assert capsys.readouterr().out.split() == sorted(published.files)
    card = shutil.copytree(folder, tmp_path / "edited") / "README.md"
    card.write_text(card.read_text().replace("0.6999", "0.9999"))
    assert cli.main(["publish", str(card.parent), "ann/edited"]) == 2 and "0.9999" in capsys.readouterr().err
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    "token, repo_id, said",
    [
        (None, "ann/no-token", "HF_TOKEN"),
        ("hf_wrong", "ann/no-token", "refuses"),
        ("hf_read", "ann/no-token", "'ann'"),
        ("hf_fake", "bob/public", "bob/public"),
        ("hf_fake", "bob/private", "bob/private"),
        ("hf_fake", "ann/public", "private"),  # it exists, and --private would be promised in vain
    ],
)
def test_without_the_right_to_it_nothing_is_made_or_changed(hub, attempt, token, repo_id, said):
    if token == "hf_fake":
        hub.repos["model", repo_id] = Repo(repo_id, private=repo_id == "bob/private")
    message, repo = attempt(repo_id, *(["--private"] if repo_id == "ann/public" else []), token=token)
    assert said in message and (repo is None if token != "hf_fake" else repo.head == FIRST_COMMIT)


@pytest.mark.parametrize("kind", ["lfs", "commit", "answer"])
def test_an_interrupted_upload_publishes_all_or_nothing_and_can_be_run_again(hub, client, folder, attempt, kind):
    name = f"ann/interrupted-{kind}"
    hub.objects.clear()
    hub.drops[kind] = 1 if kind == "answer" else 1000
    said, repo = attempt(name)
    hub.drops[kind] = 0
    assert name in said and "has all of the files or is as it was" in said
    assert set(repo.files) == (set(publishable_files(folder)) if kind == "answer" else set())
    assert client(PUBLISH, folder, name).returncode == 0
    assert len(repo.commits) == 2 and "model.safetensors" in repo.files


@pytest.mark.parametrize("setting", ["HF_HUB_DISABLE_XET=0", "HF_ENDPOINT=http://127.0.0.1:9"])
def test_a_failure_of_xet_and_a_hub_that_cannot_be_reached_are_told(attempt, setting):
    """This Hub does not speak Xet, which the client prefers where hf_xet is installed."""
    if "XET" in setting:
        pytest.importorskip("hf_xet")
    name, value = setting.split("=")
    said, repo = attempt("ann/nowhere", code=f"import os\nos.environ[{name!r}] = {value!r}\n" + PUBLISH)
    assert "the connection to the Hub failed" in said and (repo is None or repo.head == FIRST_COMMIT)


@pytest.mark.parametrize("name", ["config.json", "*.safetensors", "processor_config.json", "README.md"])
def test_an_unfinished_folder_is_an_error(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "unfinished")
    next((tmp_path / "unfinished").glob(name)).unlink()
    with pytest.raises(ValueError, match=rf"unfinished: expected {re.escape(name)}"):
        publishable_files(tmp_path / "unfinished")
    with pytest.raises(ValueError, match=r"\*\*/\*.parquet|README.md"):
        publishable_files(tmp_path / "unfinished", repo_type="dataset")


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory):
    """Two posts of somebody's own, prepared."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("prepared") / "dataset"
    write_posts(source, images=2, train=[0, 1], boxes=[[0, 0, 2, 2]], object_labels=["person"])
    arguments = {"config_name": "tiny", "selector": "none", "figures": False, "license": "cc0-1.0"}
    prepare(PrepareArguments(source="jsonl", data_dir=str(source), output_dir=str(folder), **arguments))
    (folder / "state.json").write_text("{}")
    return folder


def test_a_data_set_comes_back_whole_and_as_a_stream(hub, client, dataset_folder):
    done = client(PUBLISH, dataset_folder, "ann/posts", "--repo_type", "dataset")
    assert done.returncode == 0, done.stderr[-3000:]
    repo = hub.repos["dataset", "ann/posts"]
    assert set(repo.files) == {
        "README.md", "tiny/train-00000-of-00001.parquet", "statistics.json", "provenance.json",
    }  # fmt: skip
    assert len(repo.commits) == 2 and 'repo_id = "ann/posts"' in repo.files["README.md"].decode()
    done = client(READER, "ann/posts", package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    posts = load_dataset("parquet", data_files=str(dataset_folder / "tiny" / "*.parquet"))
    rows = [{**row, "image": row["image"].size} for row in posts["train"]]
    assert answer["rows"] == answer["streamed"] == json.loads(json.dumps(rows)) and answer["splits"] == ["train"]
    assert answer["unnamed"] == posts["train"]["id"][:] and rows[1]["tokens"] == ["Ann", "met", "Bob", "1"]
