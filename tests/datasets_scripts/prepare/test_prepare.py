"""A prepared folder: what is in it, that it loads with no code, and what each odd image or wrong flag makes of it."""

import builtins
import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer
from huggingface_hub import DatasetCard
from PIL import Image
from prepare_fakes import FEATURE_SIZE, ColourFeatures, make_fakes, write_posts
from prepare_runs import lines, load, run

from datasets_scripts.builders.building import visual_feature_description
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import main
from datasets_scripts.prepare.image_files import is_kept
from datasets_scripts.prepare.tools import make_tools


ALL = {"detector": "blobs", "selector": "first", "features": "colours"}


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    """Seven posts in two splits about three images; one image is in both splits, one post has none."""
    write_posts(tmp_path / "mine", images=3, train=[0, 1, 0, None, 1], validation=[2, 0])
    return tmp_path / "mine"


# what is in it -------------------------------------------------------------------------------------------------------


def test_the_folder_loads_with_posts_images_objects_and_features(folder):
    posts = load(run(folder, shard_size=2, **ALL))
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


def test_rows_of_one_image_have_its_features_and_boxes(folder):
    posts = load(run(folder, shard_size=1, **ALL))
    same = [posts["train"][0], posts["train"][2], posts["validation"][1]]
    for name in ("boxes", "image_features", "object_features"):
        assert same[0][name] == same[1][name] == same[2][name]
    for name in ("boxes", "image_features"):
        assert same[0][name] != posts["train"][1][name]


def test_the_shards_stream_in_order(folder):
    output = run(folder, shard_size=2, **ALL)
    assert sorted(path.name for path in (output / "jsonl").iterdir()) == [
        "train-00000-of-00003.parquet",
        "train-00001-of-00003.parquet",
        "train-00002-of-00003.parquet",
        "validation-00000-of-00001.parquet",
    ]
    streamed = list(load(output, split="train", streaming=True))
    assert [post["id"] for post in streamed] == [f"train-{i}" for i in range(5)]
    assert streamed[1]["image"].size == (40, 30) and len(streamed[1]["image_features"]) == FEATURE_SIZE


def test_each_image_is_seen_once_however_many_posts_show_it(folder):
    tools = make_fakes(PrepareArguments("jsonl", "x", **ALL), None)
    run(folder, tools, shard_size=1, **ALL)
    assert tools.extractor.passes == 3
    assert len(tools.detector.seen) == 3
    assert tools.detector.queries[0] == ["Ann", "Bob"]  # no phrases about the image: the mentions


def test_the_source_s_boxes_are_kept_unless_it_is_told_to_detect(tmp_path):
    boxes = {"boxes": [[1, 1, 9, 9]], "object_labels": ["mine"]}
    write_posts(tmp_path / "mine", images=1, train=[0], **boxes)
    tools = make_fakes(PrepareArguments("jsonl", "x", **ALL), None)
    post = load(run(tmp_path / "mine", tools, **ALL))["train"][0]
    assert (post["boxes"], post["object_labels"], tools.detector.seen) == ([[1, 1, 9, 9]], ["mine"], [])
    post = load(run(tmp_path / "mine", redetect=True, **ALL))["train"][0]
    assert post["object_labels"] == ["red", "green"]


def test_a_selector_never_sees_a_relation_and_what_the_source_chose_stays(tmp_path):
    pair = {"head": "Ann", "tail": "Bob", "relation": "peer", "text_phrases": ["met"]}
    write_posts(tmp_path / "mine", images=1, train=[0, None], pairs=[pair], image_phrases=["a wall"])
    tools = make_fakes(PrepareArguments("jsonl", "x", **ALL), None)
    output = run(tmp_path / "mine", tools, **ALL)
    assert not any("relation" in pair for post in tools.selector.posts for pair in post["pairs"])
    assert tools.selector.posts[0]["object_scores"] == pytest.approx([100 / 1200, 64 / 1200])
    assert tools.detector.queries == [["a wall"]]
    first, second = load(output)["train"]
    assert first["pairs"][0]["text_phrases"] == [[1, 2]] and first["pairs"][0]["objects"] == [0]
    assert second["pairs"][0]["objects"] == []
    assert lines(output / "empty_nodes.jsonl") == [
        {"split": "train", "id": "train-1", "pair": 0, "field": "objects", "reason": "there is none"}
    ]


def test_statistics_and_card_are_the_data_s(folder):
    output = run(folder, **ALL)
    train = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert (train["posts"], train["posts_with_image"], train["images"], train["pairs"]) == (5, 4, 2, 5)
    assert train["relations"] == {"None": 2, "peer": 3} and train["pairs_a_post"] == {"1": 5}
    assert train["objects_an_image"] == {"2": 2} and train["object_labels"] == {"green": 2, "red": 2}
    card = DatasetCard.load(output / "README.md")
    assert card.data.license == "unknown" and card.data.configs[0]["config_name"] == "jsonl"
    assert "| train | 5 | 4 | 5 | 2 | 2.00 | 1.00 | 0.00 | 0.80 |" in card.text
    assert "| 1 | `peer` | 3 | 1 |" in card.text
    assert "--source jsonl --data_dir DATA_DIR" in card.text and "Not marked as leaky" in card.text
    assert visual_feature_description(load(output)) == ColourFeatures.description


def test_provenance_names_inputs_tools_and_files_and_nothing_of_this_machine(folder):
    output = run(folder, **ALL)
    provenance = json.loads((output / "provenance.json").read_text())
    assert [file["name"] for file in provenance["inputs"]["files"]] == [
        "labels.json",
        "train.jsonl",
        "validation.jsonl",
    ]
    assert provenance["inputs"]["images"]["count"] == 3
    assert provenance["detector"] == {"adapter": "blobs"} and set(provenance["files"]) == {
        "jsonl/train-00000-of-00001.parquet",
        "jsonl/validation-00000-of-00001.parquet",
    }
    for path in output.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert str(folder.parent).encode() not in content, path


def test_images_may_stay_out(folder):
    output = run(folder, embed_images=False, figures=True, **ALL)
    posts = load(output)
    assert "image" not in posts["train"].features and len(posts["train"][0]["object_features"]) == 2
    assert sorted(path.name for path in (output / "figures").iterdir()) == [
        "objects_an_image.png",
        "pairs_a_sentence.png",
        "relations.png",
    ]


def test_figures_and_contact_sheet(folder):
    output = run(folder, figures=True, **ALL)
    for name in ("relations.png", "pairs_a_sentence.png", "objects_an_image.png", "contact_sheet.jpg"):
        with Image.open(output / "figures" / name) as figure:
            assert min(figure.size) > 50
        assert f"(figures/{name})" in (output / "README.md").read_text()


def test_figures_without_matplotlib(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="expected matplotlib .* pip install .* or pass --figures false"):
        run(folder, figures=True)


def test_posts_without_any_image_and_tools(tmp_path):
    write_posts(tmp_path / "mine", images=0, train=[None, None])
    posts = load(run(tmp_path / "mine", figures=True))
    assert posts["train"]["image"][:] == [None, None] and "image_features" not in posts["train"].features
    with pytest.raises(ValueError, match="detector: expected posts with images, found none"):
        run(tmp_path / "mine", detector="blobs")
    with pytest.raises(ValueError, match="features: expected posts with images, found none"):
        run(tmp_path / "mine", features="colours")


def test_fewer_posts(folder):
    (folder / "images" / "1.png").unlink()
    output = run(folder, only_with_images=True, max_posts=2)
    assert [post["id"] for post in load(output)["train"]] == ["train-0", "train-2"]
    statistics = json.loads((output / "statistics.json").read_text())["splits"]
    assert statistics["train"]["posts_without_file_left_out"] == 3
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="only_with_images: expected a post whose image is there, found none in"):
        run(folder, only_with_images=True)


# odd images ----------------------------------------------------------------------------------------------------------


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def save(image, path, **options):
    image.save(path, **options)
    return path.read_bytes()


def break_image(kind, path):
    """Make the image at `path` one that cannot be used."""
    if kind == "missing":
        path.unlink()
    elif kind == "corrupt":
        path.write_bytes(b"this is no image")
    elif kind == "truncated":
        content = save(noise(64, 64), path, format="JPEG")
        path.write_bytes(content[: len(content) // 2])


BAD = ("missing", "corrupt", "truncated", "outside")


@pytest.fixture(params=BAD)
def bad(request, tmp_path):
    """A folder whose second post's image is bad in one of four ways."""
    folder, kind = tmp_path / "mine", request.param
    write_posts(folder, images=2, train=[0, 1, 0])
    break_image(kind, folder / "images" / "1.png")
    if kind == "outside":
        rows = lines(folder / "train.jsonl")
        rows[1]["boxes"] = [[0, 0, 5, 5], [40, 0, 50, 5]]  # from the right border on: nothing of it is inside
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, kind


def test_a_bad_image_is_an_error_that_names_the_file(bad):
    folder, kind = bad
    message = {
        "missing": "train.jsonl, line 2, field 'image': expected a file in .* received '1.png'",
        "corrupt": "images/1.png .image of post 'train-1'.: .*--on_bad_image skip_image",
        "truncated": "images/1.png .image of post 'train-1'.: .*truncated.* or pass",
        "outside": r"images/1.png .*box 1, \[40.0, 0.0, 50.0, 5.0\]: expected some area inside .* 40 x 30 pixels",
    }
    with pytest.raises(ValueError, match=message[kind]):
        run(folder, **ALL)
    assert not (folder.parent / "out").exists()


def test_a_post_may_stay_without_its_bad_image(bad):
    folder, kind = bad
    output = run(folder, on_bad_image="skip_image", **ALL)
    post = load(output)["train"][1]
    assert (post["id"], post["image_id"], post["image"], post["image_features"]) == ("train-1", "1.png", None, None)
    assert post["boxes"] == post["object_labels"] == post["object_features"] == []
    (skip,) = lines(output / "skipped.jsonl")
    assert skip.pop("reason")
    assert skip == {"split": "train", "id": "train-1", "image_id": "1.png", "skipped": "image"}
    statistics = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert (statistics["posts_with_image"], statistics["images_skipped"], statistics["images"]) == (2, 1, 1)
    assert "1 posts stayed without their bad image" in (output / "README.md").read_text()
    assert str(folder).encode() not in (output / "skipped.jsonl").read_bytes()


def test_a_post_may_be_left_out_with_its_bad_image(bad):
    folder, kind = bad
    output = run(folder, on_bad_image="skip_post", shard_size=1, **ALL)
    assert [post["id"] for post in load(output)["train"]] == ["train-0", "train-2"]
    assert [line["skipped"] for line in lines(output / "skipped.jsonl")] == ["post"]


def test_a_source_s_missing_images_are_not_passed_over(tmp_path):
    """MNRE's builder only warns of them."""
    folder = tmp_path / "mnre"
    (folder / "mnre_txt").mkdir(parents=True)
    (folder / "img_org" / "train").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "img_org" / "train" / "a.jpg")
    mention = {"h": {"name": "a", "pos": [0, 1]}, "t": {"name": "b", "pos": [1, 2]}, "relation": "None"}
    facts = [{"token": ["a", "b", name], "img_id": name, **mention} for name in ("a.jpg", "b.jpg")]
    (folder / "mnre_txt" / "mnre_train.txt").write_text("".join(f"{fact}\n" for fact in facts))
    with pytest.raises(ValueError, match="on_bad_image: .* 1 posts, the first 'b.jpg' of train. Put them .*skip_post"):
        run(folder, source="mnre")
    output = run(folder, source="mnre", on_bad_image="skip_image")
    assert load(output, "mnre")["train"][1]["image"] is None
    assert lines(output / "skipped.jsonl")[0]["reason"] == "the image is not in the source's folder"


def test_an_image_that_is_a_tail_cannot_be_left_out(tmp_path):
    pair = {"head": "Ann", "tail_object": 0, "relation": "peer"}
    write_posts(tmp_path / "mine", images=2, train=[0, 1], pairs=[pair], boxes=[[0, 0, 5, 5]])
    break_image("corrupt", tmp_path / "mine" / "images" / "1.png")
    with pytest.raises(ValueError, match="post 'train-1' of train cannot stay without its image '1.png' .*skip_post"):
        run(tmp_path / "mine", on_bad_image="skip_image")
    assert len(load(run(tmp_path / "mine", on_bad_image="skip_post"))["train"]) == 1
    with pytest.raises(ValueError, match="redetect: expected tails in the sentence, received tails that are boxes"):
        run(tmp_path / "mine", on_bad_image="skip_post", redetect=True, detector="blobs")


def test_no_post_stays(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    break_image("corrupt", tmp_path / "mine" / "images" / "0.png")
    with pytest.raises(ValueError, match="on_bad_image: expected some post to stay, all were left out"):
        run(tmp_path / "mine", on_bad_image="skip_post")


def odd_image(kind, path):
    """Write an odd but good image; returns the boxes to give and the size and boxes to expect."""
    half = [[0, 0, 20, 30]]
    if kind == "one pixel":
        save(Image.new("RGB", (1, 1), "red"), path)
        return [[0, 0, 1, 1]], (1, 1), [[0, 0, 1, 1]]
    if kind == "12,000 pixels":
        save(Image.new("RGB", (12000, 40), "red"), path)
        return [[6000, 0, 12000, 40], [0, 0, 0.5, 40]], (600, 2), [[300, 0, 600, 2], [0, 0, 0.025, 2]]
    if kind == "cmyk":
        save(noise(40, 30).convert("CMYK"), path, format="JPEG")
    elif kind == "palette":
        save(noise(40, 30).convert("P"), path, transparency=3)
    elif kind == "grey":
        save(noise(40, 30).convert("L"), path, format="JPEG")
    elif kind == "alpha":
        save(Image.new("RGBA", (40, 30), (255, 0, 0, 0)), path)
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        save(noise(30, 40), path, format="JPEG", exif=exif)  # stored sideways, 40 x 30 as one sees it
    return half, (40, 30), half


@pytest.mark.parametrize("kind", ["one pixel", "12,000 pixels", "cmyk", "palette", "grey", "alpha", "rotated"])
def test_an_odd_image_becomes_upright_rgb_and_its_boxes_fit(tmp_path, kind):
    folder = tmp_path / "mine"
    write_posts(folder, images=1, train=[0])
    boxes, size, expected = odd_image(kind, folder / "images" / "0.png")
    row = lines(folder / "train.jsonl")[0] | {"boxes": boxes}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "text": "Ann met Bob ."}))
    output = run(folder, max_side=600, features="colours")
    post = load(output)["train"][0]
    assert (post["image"].mode, post["image"].size) == ("RGB", size)
    np.testing.assert_allclose(post["boxes"], expected, rtol=1e-6)
    vectors = next(ColourFeatures().extract([(post["image"], [])]))  # the stored image is the one that was encoded
    np.testing.assert_array_equal(np.float16(post["image_features"]), vectors[0])
    if kind == "alpha":
        assert post["image"].getpixel((0, 0)) == (255, 255, 255)


def test_a_plain_image_keeps_its_bytes(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    content = save(noise(40, 30), tmp_path / "mine" / "images" / "0.png", format="JPEG", quality=60)
    output = run(tmp_path / "mine")
    stored = pq.read_table(output / "jsonl" / "train-00000-of-00001.parquet")["image"][0].as_py()
    assert stored == {"bytes": content, "path": "0.png"}


def test_an_animation_is_not_kept():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, format="PNG", save_all=True, append_images=frames[1:])
    assert not is_kept(buffer.getvalue(), max_side=100)


def test_one_image_with_two_lists_of_boxes(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0, 0])
    rows = lines(tmp_path / "mine" / "train.jsonl")
    rows[1]["boxes"] = [[0, 0, 5, 5]]
    (tmp_path / "mine" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="boxes: expected one list of boxes an image, received two for image '0.png'"):
        run(tmp_path / "mine")


def test_duplicate_ids_name_both_places(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0, 0], id="x")
    with pytest.raises(ValueError, match="train.jsonl, line 2, field 'id': .*/train.jsonl, line 1 has already"):
        run(tmp_path / "mine")


# flags and folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "mnist"}, "source: expected one of mnre, .*jsonl, received 'mnist'"),
        ({"on_bad_image": "ignore"}, "on_bad_image: expected one of error, skip_image, skip_post, received 'ignore'"),
        ({"num_proc": 0}, "num_proc: expected at least 1, received 0"),
        ({"max_side": 3}, "max_side: expected at least 32, received 3"),
        ({"detector_options": "[1]"}, r"detector_options: expected a JSON object, received '\[1\]'"),
        ({"feature_options": "{"}, "feature_options: expected a JSON object, received '{'"),
    ],
)
def test_wrong_arguments(fields, message):
    with pytest.raises(ValueError, match=message):
        PrepareArguments(**({"source": "jsonl", "output_dir": "x"} | fields))


def test_detecting_anew_needs_a_detector(folder):
    with pytest.raises(ValueError, match="redetect: expected a detector to detect with, received detector='none'"):
        run(folder, redetect=True)


def test_a_flag_that_the_source_does_not_have(folder):
    with pytest.raises(ValueError, match=r"config_fields: expected some of .*received \['captions'\]"):
        run(folder, captions="qwen")


def test_an_unknown_flag():
    with pytest.raises(ValueError, match="--datector"):
        main(["--source", "postcards", "--output_dir", "x", "--datector", "none"])


def test_the_command_line_names_the_tools_and_imports_none_that_it_does_not_name():
    arguments = PrepareArguments("postcards", "x", selector="none")
    assert make_tools(arguments, None).descriptions == {"detector": None, "selector": None, "features": None}


def test_another_s_folder_is_not_replaced(folder):
    output = folder.parent / "out"
    output.mkdir()
    assert run(folder) == output  # an empty one is filled
    (output / "provenance.json").unlink()
    with pytest.raises(ValueError, match="output_dir: expected a new folder, .*other files and no provenance.json"):
        run(folder)
    file = folder.parent / "file"
    file.touch()
    with pytest.raises(ValueError, match="output_dir: expected a new folder"):
        run(folder, output_dir=str(file))


def test_the_command_draws_postcards(tmp_path, monkeypatch):
    output = str(tmp_path / "cards")
    flags = "--source postcards --num_train 2 --num_validation 1 --num_test 1 --selector none --config_name small"
    flags += " --figures false --license cc0-1.0"
    assert main([*flags.split(), "--output_dir", output]) == Path(output)
    posts = load(Path(output), "small")
    assert len(posts["train"]) == 2 and posts["train"][0]["pairs"][0]["objects"]
    assert DatasetCard.load(Path(output) / "README.md").data.license == "cc0-1.0"
    assert not (tmp_path / ".cards.prepare").exists()


def test_what_gives_labels_away_is_marked_and_not_pushed(folder, monkeypatch):
    marked = []
    monkeypatch.setattr("datasets_scripts.leaks.leak_status", lambda source: ["objects by line."])
    monkeypatch.setattr("datasets_scripts.leaks.mark_card", lambda *arguments: marked.append(arguments))
    output = run(folder)
    text = (output / "README.md").read_text()
    assert "gives its labels away" in text and "> - objects by line." in text and "Marked as leaky" in text
    assert marked[0][1:] == ("jsonl", ["objects by line."])
    with pytest.raises(ValueError, match="push_to_hub: .*marked as leaky: objects by line. .*--allow_leaky true"):
        run(folder, push_to_hub="me/mine")
    assert run(folder, push_to_hub="me/mine", allow_leaky=True) == output


def test_a_finished_folder_is_pushed_as_it_is_in_one_commit(tmp_path, monkeypatch):
    home = tmp_path / "home"
    with HubServer() as hub:
        for name, value in hub.environment(home).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.environment(home)["HF_ENDPOINT"])
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        flags = "--source postcards --num_train 3 --num_validation 1 --num_test 1 --shard_size 2 --selector none"
        flags += f" --output_dir {tmp_path / 'cards'} --push_to_hub ann/cards --private true"
        output = main([*flags.split(), "--figures", "false"])
        repo = hub.repos["dataset", "ann/cards"]
        assert repo.private and len(repo.commits) == 2  # the first one made it
        files = {
            path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()
        }
        assert repo.files == files and "postcards/train-00001-of-00002.parquet" in files
        assert 'repo_id = "ann/cards"' in files["README.md"].decode()
        main([*flags.split(), "--figures", "false"])
        assert len(repo.commits) == 2  # it was finished and there
        main([*flags.replace("--shard_size 2", "--shard_size 9").split(), "--figures", "false"])
        assert sum(name.endswith(".parquet") for name in repo.files) == 3  # no shard of the first upload stays
