"""Names that become parts of paths: a row's picture stays in the data folder, an option's name in its folder."""

import json
import shutil

import pytest
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.paths import check_name, inner_file
from datasets_scripts.registry import BUILDERS
from vmhan import cli


NAMES = [
    "../x",
    "../../../x",
    "/x",
    "a/b",
    "a\\b",
    "",
    " ",
    ".",
    "..",
    ".hidden",
    "-x",
    "a b",
    "a:b",
    "x\n",
    "x\0",
    "a" * 101,
]
MNRE = {"token": ["Ann", "met", "Bob"], "h": {"name": "Ann", "pos": [0, 1]}, "t": {"name": "Bob", "pos": [2, 3]}}


@pytest.fixture
def secret(tmp_path):
    """A picture that is not in the data folder."""
    path = tmp_path / "secret.png"
    Image.new("RGB", (20, 10), "red").save(path)
    return path


@pytest.fixture
def make_source(tmp_path, more_folder):
    """`make_source(source, image)` -> a data folder, one row of which names `image`, and the folder for its images."""

    def make(source, image):
        folder = tmp_path / source
        if source == "jsonl":
            (folder / "images").mkdir(parents=True)
            row = {
                "text": "Ann met Bob",
                "image": image,
                "pairs": [{"head": "Ann", "tail": "Bob", "relation": "None"}],
            }
            (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
            return folder, folder / "images"
        if source == "more":
            lines = (more_folder / "txt" / "train.txt").read_text()
            (more_folder / "txt" / "train.txt").write_text(lines.replace("'a.jpg'", repr(image)))
            return more_folder, more_folder / "img_org" / "train"
        (folder / "txt").mkdir(parents=True)
        (folder / "txt" / "ours_train.txt").write_text(str(MNRE | {"img_id": image, "relation": "None"}) + "\n")
        (folder / "img_org" / "train").mkdir(parents=True)
        return folder, folder / "img_org" / "train"

    return make


def load(source, folder, **options):
    return build(BUILDERS[source].builder_class(), config_name=source, data_dir=folder, **options)


def size_of(posts):
    """(width, height) of the first post's image; None if it has none."""
    image = posts["train"][0].get("image")
    return image and image.size


@pytest.mark.parametrize("source", ["jsonl", "mnre", "more"])
def test_a_file_that_leaves_the_data_folder_by_a_link_is_refused(source, make_source, secret):
    folder, images = make_source(source, "p.png")
    (images / "p.png").symlink_to(secret)
    with pytest.raises(ValueError, match="p.png, a link .*secret.png"):
        load(source, folder)


@pytest.mark.parametrize("source", ["jsonl", "mnre", "more"])
def test_so_is_one_that_leaves_it_by_two_links(source, make_source, secret):
    folder, images = make_source(source, "p.png")
    (folder / "other.png").symlink_to(secret)
    (images / "p.png").symlink_to(folder / "other.png")
    with pytest.raises(ValueError, match="p.png, a link .*secret.png"):
        load(source, folder)


@pytest.mark.parametrize("source", ["jsonl", "mnre", "more"])
@pytest.mark.parametrize(
    "name", ["../secret.png", "../../../secret.png", "{secret}", "x/../../secret.png", "..\\secret.png"]
)
def test_a_row_that_names_a_file_elsewhere_opens_none(source, name, make_source, secret):
    folder, images = make_source(source, name.format(secret=secret))
    (images / "x").mkdir()
    try:
        found = size_of(load(source, folder))
    except ValueError as error:
        assert "inside the data folder" in str(error) and "secret.png" in str(error)
    else:
        assert source == "mnre" and found is None  # it looks names up in a list


@pytest.mark.parametrize("source", ["jsonl", "mnre", "more"])
@pytest.mark.parametrize("linked", ["file", "images", "parent", "data folder", "all"])
def test_folders_may_be_links_and_files_may_be_links_inside_them(source, linked, make_source, secret, tmp_path):
    folder, images = make_source(source, "p.png")
    shutil.copy(secret, images / "p.png")
    if linked in ("file", "all"):
        (images / "p.png").rename(folder / "kept.png")
        (images / "p.png").symlink_to(folder / "kept.png")
    places = {"images": [images], "parent": [images.parent], "data folder": [folder], "all": [images, folder]}
    for number, place in enumerate(places.get(linked, [])):
        if place.is_symlink() or place == folder.parent:
            continue
        disk = tmp_path / f"disk {number}"
        place.rename(disk)
        place.symlink_to(disk)
    assert size_of(load(source, folder)) == (20, 10)


def test_a_folder_below_that_is_a_link_leaves(make_source, secret, tmp_path):
    folder, images = make_source("jsonl", "far/secret.png")
    (images / "far").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="train.jsonl, line 1, field 'image': .*far/secret.png"):
        load("jsonl", folder)


@pytest.mark.parametrize("name", ["none.png", "x" * 300, "loop.png", "broken.png", "images", "."])
def test_what_is_no_file_is_none(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "broken.png").symlink_to("gone.png")
    assert inner_file("image", name, [tmp_path, tmp_path / "images"], inside=tmp_path) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_more_than_a_name(name):
    with pytest.raises(ValueError) as raised:
        check_name("--flag", name)
    assert str(raised.value).startswith("--flag: ") and repr(name) in str(raised.value)


@pytest.mark.parametrize("name", ["mnre", "a.b-c_1", "2", "_x", "données", "数据", "a" * 100])
def test_names_that_are_names(name):
    check_name("--flag", name)


@pytest.mark.parametrize("name", ["../../../x", "a/b", "..", "x" * 300])  # `NAMES` are tried on `check_name`
@pytest.mark.parametrize(
    "command",
    [
        "prepare --source postcards --output_dir {folder}/out --figures false --config_name NAME",
        "prepare --source mnre --data_dir {folder}/mnre --output_dir {folder}/out --figures false --captions NAME",
        "train --dataset mnre --data_dir {folder}/mnre --output_dir {folder}/out --captions NAME",
        "train demo --push_to_hub --hub_model_id NAME --output_dir {folder}/out",
        "prepare --source postcards --output_dir {folder}/out --figures false --push_to_hub NAME",
        "publish {folder}/mnre NAME --dry_run",
        "sweep {folder}/rows.yaml --results {folder}/out",
        "sweep {folder}/datasets.yaml --results {folder}/out",
    ],
)
def test_each_command_refuses_it_at_the_door(command, name, make_source, tmp_path, capsys):
    make_source("mnre", "p.png")
    (tmp_path / "config.yaml").write_text("dataset: postcards\n")
    for group, names in {"rows": ("d", name), "datasets": (name, "full")}.items():
        content = {"datasets": {names[0]: {"config": "config.yaml"}}, "rows": {names[1]: {}}, "reference": names[1]}
        (tmp_path / f"{group}.yaml").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    if "hub" in command or "publish" in command:
        name = {"a/b": "a/b/c"}.get(name, name)
    words = [name if word == "NAME" else word.format(folder=tmp_path) for word in command.split()]
    assert cli.main(words) == 2
    assert repr(name) in capsys.readouterr().err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [2, None, True, 1.5])
def test_a_row_of_a_sweep_that_yaml_takes_for_no_name(name, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("dataset: postcards\n")
    rows = f"{{{json.dumps(name)}: {{}}, full: {{}}}}"
    (tmp_path / "s.yaml").write_text(f"datasets: {{d: {{config: config.yaml}}}}\nrows: {rows}\n")
    assert cli.main(["sweep", str(tmp_path / "s.yaml"), "--results", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "s.yaml, rows: " in error and f"received {name!r}" in error
