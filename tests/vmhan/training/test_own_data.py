"""People's own posts, by one command and from Python: splits, configuration, pictures, the last words."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from own_posts import made_posts, write_posts
from paths import ROOT
from PIL import Image
from transformers import AutoConfig, AutoModel

import vmhan
from datasets_scripts.configs import find_config, read_entries
from modeling_vmhan.direction import directed_labels
from vmhan.training import evaluate
from vmhan.training import own_data as room
from vmhan.training.arguments import parse_arguments
from vmhan.training.own_data import own_data, settle_pictures
from vmhan.training.posts.data import load_posts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 24 posts, a file of them, and pictures/ with one image more than they name."""
    folder = tmp_path_factory.mktemp("own")
    write_posts(folder, 24, size=16)
    Image.new("RGB", (16, 16)).save(folder / "pictures" / "unnamed.png")
    return folder


@pytest.fixture(scope="module")
def small(workplace, make_vision_config, tmp_path_factory):
    """Flags of a tiny model."""
    vision = tmp_path_factory.mktemp("vision")
    AutoModel.from_config(make_vision_config()).save_pretrained(vision)
    flags = {"text_encoder": str(workplace / "encoder"), "features": f"transformers:{vision}", "num_train_epochs": 1}
    return flags | {"use_cpu": True, "disable_tqdm": True}


def words(flags):
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def ran(place, small):
    """The command, once, as a user starts it: what it left and said."""
    command = [sys.executable, "-m", "vmhan", "train", "--data", "my_posts.jsonl", "--images", "pictures"]
    command += ["--output_dir", "out", "--cache_dir", "cache", *words(small)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return place / "out", done


def test_one_command_makes_a_model_that_takes_pictures_and_says_what_is_next(ran):
    output, done = ran
    assert AutoConfig.from_pretrained(output).vision_encoder == "transformers"
    assert "configuration is own_data_small" in done.stderr and "minutes; posts: train" in done.stderr
    used = "25 images found in pictures, 24 used, by 24 of 24 rows; 1 that no post names, the first is unnamed.png"
    assert used in done.stderr
    assert "gold" in done.stderr and (output / "example.png").is_file()  # an answer about a post of its own
    following = [line.split() for line in done.stdout.splitlines() if line.startswith("  vmhan ")]
    assert [command[1:3] for command in following] == [["predict", "out"], ["publish", "out"]]


def test_few_pairs_of_validation_are_not_calibrated_on(ran):
    output, done = ran
    assert "not calibrated" in done.stderr and json.loads((output / "metrics.json").read_text())["temperature"] == 1


def test_the_run_names_no_folder_and_is_evaluated_on_the_same_split(ran, place, small):
    output, _ = ran
    run = json.loads((output / "run.json").read_text())
    assert not {"data", "images", "data_dir"} & set(run["data"]) and run["data"]["split_seed"] == 0
    given = {"data": place / "my_posts.jsonl", "images": place / "pictures", "cache_dir": place / "cache"}
    given |= {"use_cpu": True, "disable_tqdm": True, "output_dir": place / "again"}
    evaluated = evaluate.main([str(output), *words(given)])
    assert evaluated["test_f1"] == json.loads((output / "metrics.json").read_text())["test_f1"]


def test_a_second_training_into_the_folder_is_refused_before_anything_is_read(ran, place, small, monkeypatch):
    output, _ = ran
    monkeypatch.setattr("vmhan.training.command.load_posts", lambda *a: pytest.fail("it went on"))
    with pytest.raises(ValueError, match=f"--output_dir {output}.*run.json.*--overwrite"):
        vmhan.train(place / "my_posts.jsonl", place / "pictures", output, **small)


def test_from_python_posts_become_a_pipeline(place, small, tmp_path):
    """Images by name, as bytes and as Pillow has them; a picture that two posts share is one."""
    posts = made_posts(12)
    with Image.open(place / "pictures" / "0.png") as image:
        image.load()
    posts[1]["image"], posts[2]["image"] = image, image.copy()
    posts[3]["image"] = (place / "pictures" / "3.png").read_bytes()
    del posts[4]["image"]
    pipe = vmhan.train(posts, place / "pictures", tmp_path / "out", **small)
    answer = pipe({"text": "Porto is the home of Acme", "image": image, "head": "Acme", "tail": "Porto"})
    assert answer["relation"] in pipe.model.config.labels and pipe.model.config.vision_encoder == "transformers"
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {row["id"] for row in rows} < {post["id"] for post in posts}


def test_from_python_a_dataset_becomes_a_pipeline_in_a_folder_of_its_own(place, small):
    built = load_posts(*arguments(place, small)[1:])["train"]
    assert isinstance(built.features["pairs"].feature["relation"], datasets.ClassLabel)
    pipe = vmhan.train(built.remove_columns(["image"]), **{**small, "visual": "none"})
    assert set(pipe.model.config.labels) == set(directed_labels(built.features["pairs"].feature["relation"].names))
    shutil.rmtree(pipe.model.name_or_path)


ONE_PAIR = [
    {"text": f"{one} met Bob in {place}", "head": one, "tail": [4, 7], "relation": relation}
    for one, place, relation in (("Ann", "Oslo", "peer"), ("Cem", "Graz", "None"))
]
NAMES = datasets.ClassLabel(names=["None", "peer"])


def as_dataset():
    return datasets.Dataset.from_list(ONE_PAIR)


@pytest.fixture
def written(monkeypatch):
    """`written(posts)`: of each file that `vmhan.train` gives to the command, its rows, without nulls."""
    read = {}

    def main(argv):
        data = Path(argv[argv.index("--data") + 1])
        for file in [data] if data.is_file() else data.glob("*.jsonl"):
            rows = map(json.loads, file.read_text().splitlines())
            read[file.stem] = [{key: value for key, value in row.items() if value is not None} for row in rows]

    monkeypatch.setattr("vmhan.training.command.main", main)
    monkeypatch.setattr("transformers.pipeline", lambda **_: None)
    return lambda posts: vmhan.train(posts) or read


@pytest.mark.parametrize(
    "make",
    [
        as_dataset,
        lambda: as_dataset().cast_column("relation", NAMES).add_column("source", ["a", "b"]),
        lambda: as_dataset().with_format("numpy"),
        lambda: as_dataset().cast_column("relation", NAMES).with_format("torch"),
        lambda: as_dataset().cast_column("relation", NAMES).to_iterable_dataset(),
        lambda: datasets.IterableDataset.from_generator(lambda: iter(ONE_PAIR)),
        lambda: as_dataset().to_pandas().to_dict("records"),
    ],
)
def test_from_python_takes_rows_of_one_pair_in_any_format(written, make):
    assert written(make()) == {"posts": ONE_PAIR}


def test_from_python_splits_stay_as_they_are(written):
    splits = as_dataset().train_test_split(test_size=1, shuffle=False)
    assert written(splits) == {"train": ONE_PAIR[:1], "test": ONE_PAIR[1:]}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: as_dataset().to_pandas(), "row 0: expected a dict, received 'text'.*to_dict"),
        (lambda: {"train": ONE_PAIR}, "row 0: expected a dict, received 'train'.*DatasetDict"),
        (lambda: datasets.DatasetDict(train=as_dataset(), dev=as_dataset()), r"received \['train', 'dev'\]"),
        (lambda: datasets.DatasetDict(test=as_dataset()), r"received \['test'\]"),
        (lambda: [{**ONE_PAIR[0], "id": object()}], "received <object"),
        (lambda: datasets.Dataset.from_dict({"text": ["a"], "relation": [-1]}).cast_column("relation", NAMES), "-1"),
    ],
)
def test_from_python_what_is_no_row_is_said(written, make, said):
    with pytest.raises(ValueError, match=said):
        written(make())


def of_pairs(first, second, type_of_pairs=datasets.List):
    pair = {"head": datasets.Value("string"), "tail": datasets.Value("string"), "relation": NAMES}
    features = datasets.Features({"text": datasets.Value("string"), "pairs": type_of_pairs(pair)})
    texts = ["Ann met Bob", "Cem met Dora"]
    return datasets.Dataset.from_dict({"text": texts, "pairs": [first, second]}, features=features)


PEERS = {"head": "Ann", "tail": "Bob", "relation": 1}
COLUMNS = {name: [value] for name, value in PEERS.items()}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: of_pairs([PEERS], None), "line 2, field 'pairs'"),
        (lambda: of_pairs([PEERS], None).to_iterable_dataset(), "line 2, field 'pairs'"),
        (lambda: of_pairs([PEERS, {**PEERS, "relation": None}], [PEERS]), r"line 1, field 'pairs\[1\].relation'"),
        (lambda: of_pairs([PEERS], [None, PEERS]), r"line 2, field 'pairs\[0\]"),
        (
            lambda: as_dataset().map(lambda row: {"relation": None}).cast_column("relation", NAMES),
            "line 1, .*relation",
        ),
        (lambda: datasets.Dataset.from_dict({"text": ["Ann met Bob"], "pairs": [None]}), "line 1, field 'pairs'"),
        (lambda: of_pairs(COLUMNS, COLUMNS, datasets.Sequence), r"type datasets\.List.*'head'.*Sequence"),
    ],
)
@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_from_python_a_label_that_is_missing_is_an_error_of_its_row(monkeypatch, make, said, kind):
    monkeypatch.setattr("vmhan.training.command.main", own_data)
    with pytest.raises(ValueError, match=said):
        vmhan.train(make().with_format(kind))


def arguments(place, small, **flags):
    given = {"data": place / "my_posts.jsonl", "images": place / "pictures", "cache_dir": place / "cache"}
    given = {name: value for name, value in ({**given, "output_dir": "x", **small} | flags).items() if value}
    return parse_arguments(words(given))


def said_of(caplog, place, small, **flags):
    """What is said of the pictures, and the arguments then."""
    given = {"data": place / "my_posts.jsonl", "images": place / "pictures", "output_dir": "x", **small, **flags}
    line = words({name: value for name, value in given.items() if value})
    own = own_data(line)
    groups = parse_arguments(line, before=own.flags)
    with caplog.at_level(logging.INFO):
        settle_pictures(own, *groups[:2])
    return caplog.text, groups[1]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"visual": "none"}, "--visual none"),
        ({"preset": "text_only"}, "--preset text_only"),
        ({"model": "mtb"}, "--model mtb"),
        ({"features": None}, "the vision encoder openai/clip-vit-base-patch32 cannot be had"),
    ],
)
def test_why_no_picture_is_used_is_said(caplog, place, small, flags, reason):
    said, data_args = said_of(caplog, place, small, **flags)
    assert f"25 images found in {place / 'pictures'}, none used, because {reason}" in said
    assert data_args.features is None or "features" not in flags


def test_images_that_no_post_names_are_said_to_be_unused_and_missing_ones_are_an_error(caplog, place, small, tmp_path):
    posts = made_posts(8)
    for post in posts:
        del post["image"]
    file = tmp_path / "posts.jsonl"
    file.write_text("".join(json.dumps(post) + "\n" for post in posts))
    said, data_args = said_of(caplog, place, {**small, "features": None}, data=file)
    assert "25 images found" in said and "none used, because no post names one" in said and data_args.features is None
    file.write_text("".join(json.dumps({**post, "image": "gone.png"}) + "\n" for post in posts))
    with pytest.raises(ValueError, match=f"line 1, field 'image': .*{place / 'pictures'}.*'gone.png'"):
        load_posts(*arguments(place, small, data=file)[1:])


@pytest.mark.parametrize(("few", "configuration"), [(1000, "own_data_small"), (10, "own_data")])
def test_the_number_of_pairs_chooses_the_configuration(place, monkeypatch, few, configuration):
    monkeypatch.setattr(room, "FEW_PAIRS", few)
    found = own_data(["--data", str(place / "my_posts.jsonl")])
    assert found.configuration == configuration and 24 <= found.pairs <= 72
    assert found.flags[:2] == ["--text_encoder", read_entries(find_config(configuration))["text_encoder"]]
    own_config = own_data(["demo", "--data", str(place / "my_posts.jsonl")])
    assert own_config.configuration is None and own_config.flags == [] and own_data(["demo"]) is None


@pytest.mark.parametrize("kind", ["csv", "tsv", "folder of one split", "folder of two splits"])
def test_tables_and_folders_are_read_like_a_file(place, small, tmp_path, kind):
    posts = made_posts(24)
    if kind in ("csv", "tsv"):
        data = tmp_path / f"posts.{kind}"
        with data.open("w", newline="") as file:
            table = csv.writer(file, delimiter="," if kind == "csv" else "\t")
            table.writerow(["id", "text", "image", "head", "tail", "relation"])
            for post in posts:
                for pair in post["pairs"]:
                    table.writerow([post["id"], post["text"], post["image"], *pair.values()])
    else:
        data = tmp_path / "posts"
        data.mkdir()
        shutil.copy(place / "my_posts.jsonl", data / "train.jsonl")
        if "two" in kind:
            shutil.copy(place / "my_posts.jsonl", data / "test.jsonl")
    found = load_posts(*arguments(place, small, data=data, visual="none")[1:])
    expected = load_posts(*arguments(place, small, visual="none")[1:])
    if "two" in kind:  # as they are
        assert {name: len(rows) for name, rows in found.items()} == {"train": 24, "test": 24}
    else:
        assert {name: rows["tokens"] for name, rows in found.items()} == {
            name: rows["tokens"] for name, rows in expected.items()
        }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data": "my_post.jsonl"}, "--data: .*my_post.jsonl.*'my_posts.jsonl'"),
        ({"data": "posts.txt"}, "--data: .*.jsonl, .csv, .tsv.*posts.txt"),
        ({"data": "my_posts.jsonl", "images": "picture"}, "--images: .*picture.*'pictures'"),
        ({"data": "my_posts.jsonl", "dataset": "postcards"}, "--data my_posts.jsonl.*--dataset postcards"),
        ({"data": "my_posts.jsonl", "data_dir": "pictures"}, "--data my_posts.jsonl.*--data_dir pictures"),
        ({"images": "pictures"}, "--images pictures.*--data"),
    ],
)
def test_what_cannot_be_read_is_said(place, monkeypatch, flags, said):
    monkeypatch.chdir(place)
    (place / "posts.txt").touch()
    with pytest.raises(ValueError, match=said):
        parse_arguments(words({**flags, "output_dir": "x"}))
