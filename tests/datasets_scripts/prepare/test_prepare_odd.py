"""Odd sources and places: what a preparation makes of repeated phrases, missing or damaged images, links, devices."""

import io
import json
import os
import struct

import datasets
import pytest
from more_files import fact, write
from PIL import Image
from prepare_fakes import write_posts
from prepare_runs import lines, load, run

from datasets_scripts.audit.checks import invariants
from datasets_scripts.nodes.chat_transformers import TransformersChatModel
from datasets_scripts.nodes.selection import moved_indices
from datasets_scripts.prepare import tools as prepare_tools
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.assemble import check_output
from datasets_scripts.prepare.image_files import is_kept
from modeling_vmhan.images import load_image


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


def test_phrases_that_the_source_chose_are_the_same_ones_after_repetitions_are_gone(tmp_path):
    pair = {"head": "Ann", "tail": "Bob", "relation": "peer", "image_phrases": [3, 2]}
    write_posts(
        tmp_path / "mine", images=1, train=[0], pairs=[pair], image_phrases=["a dog", "A  dog", "red car", "sky"]
    )
    post = load(run(tmp_path / "mine", selector="first"))["train"][0]
    assert post["image_phrases"] == ["a dog", "red car", "sky"]
    assert [post["image_phrases"][i] for i in post["pairs"][0]["image_phrases"]] == ["sky", "red car"]
    assert moved_indices([-1, 1, 0], ["a dog", "A dog"], ["a dog"]) == [-1, 0]


@pytest.mark.parametrize("kind", ["missing", "unreadable"])
def test_a_bad_image_of_more_may_be_passed_over(more_folder, kind):
    folder = more_folder
    other = fact(img_id="b.jpg", t={"name": "[OBJ9]", "box": (0.25, 0.5, 0.1, 0.2)})
    with open(folder / "txt" / "train.txt", "a") as file:
        file.write(f"{other}\n")
    if kind == "unreadable":
        write(folder / "img_org" / "train" / "b.jpg", "junk")
    with pytest.raises((OSError, ValueError), match="b.jpg"):
        run(folder, source="more")
    with pytest.raises(ValueError, match="a pair's tail is an object in it. Pass --on_bad_image skip_post"):
        run(folder, source="more", on_bad_image="skip_image")
    output = run(folder, source="more", on_bad_image="skip_post")
    posts = load(output, "more")["train"]
    assert [post["image_id"] for post in posts] == ["a.jpg", "a.jpg"] and all(
        len(boxes) == 3 for boxes in posts["boxes"]
    )
    assert [line["image_id"] for line in lines(output / "skipped.jsonl")] == ["b.jpg"]


def test_posts_of_more_without_their_image_may_stay_out(more_folder):
    folder = more_folder
    with open(folder / "txt" / "train.txt", "a") as file:
        file.write(f"{fact(img_id='b.jpg', t={'name': '[OBJ9]', 'box': (0.25, 0.5, 0.1, 0.2)})}\n")
    assert len(load(run(folder, source="more", only_with_images=True), "more")["train"]) == 2


def test_a_source_without_images_counts_none(tmp_path, caplog):
    text = tmp_path / "mnre" / "mnre_txt" / "mnre_train.txt"
    text.parent.mkdir(parents=True)
    mention = {"h": {"name": "a", "pos": [0, 1]}, "t": {"name": "b", "pos": [1, 2]}, "relation": "None"}
    text.write_text("".join(f"{ {'token': ['a', 'b', name], 'img_id': name, **mention} }\n" for name in ("c", "d")))
    with caplog.at_level("WARNING"):
        output = run(tmp_path / "mnre", source="mnre")
    counted = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert (counted["posts"], counted["posts_with_image"], counted["images"]) == (2, 0, 0)
    assert counted["objects_an_image"] == {} and "the source gives no images" in caplog.text


def png_with_exif(exif):
    """A good picture of 64 x 48 pixels with these bytes as its EXIF data."""
    content = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 90, 200)).save(content, "PNG", exif=b"Exif\0\0" + exif)
    return content.getvalue()


@pytest.mark.parametrize("exif", [b"MM\x00\x00\x00\x00\x00\x00", b"II", struct.pack("<2sHLH", b"II", 42, 8, 9999)])
def test_a_picture_with_damaged_exif_is_stored_anew(tmp_path, exif):
    content = png_with_exif(exif)
    write_posts(tmp_path / "mine", images=1, train=[0])
    (tmp_path / "mine" / "images" / "0.png").write_bytes(content)
    posts = load(run(tmp_path / "mine"))["train"].cast_column("image", datasets.Image(decode=False))
    stored = posts[0]["image"]["bytes"]
    assert is_kept(stored, max_side=4096) and load_image(stored).tobytes() == load_image(content).tobytes()


def test_every_image_may_be_bad_and_figures_asked_for(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0, None])
    (tmp_path / "mine" / "images" / "0.png").write_bytes(b"junk")
    output = run(tmp_path / "mine", on_bad_image="skip_image", figures=True)
    assert (
        not (output / "figures" / "contact_sheet.jpg").exists()
        and "contact_sheet" not in (output / "README.md").read_text()
    )


def test_the_output_may_be_a_link_to_an_empty_folder(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(tmp_path / "mine", output_dir=str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "provenance.json").is_file()


def test_the_output_may_not_be_where_a_disk_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(ValueError, match="where another disk begins. Name a folder inside it"):
        check_output(tmp_path)


# ---------------------------------------------------------------- tools


def test_a_selector_in_process_gets_the_device_and_others_do_not(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "datasets_scripts.nodes.selection.make_selector", lambda spec, **options: asked.update({spec: options})
    )
    for spec in ("transformers:a,b", "openai:m@http://x", "heuristic"):
        prepare_tools.make_tools(PrepareArguments("jsonl", "x", selector=spec), "cuda:1")
    assert asked == {"transformers:a,b": {"device": "cuda:1"}, "openai:m@http://x": {}, "heuristic": {}}
    options = '{"device": "cpu"}'
    prepare_tools.make_tools(
        PrepareArguments("jsonl", "x", selector="transformers:a", selector_options=options), "cuda:1"
    )
    assert asked["transformers:a"] == {"device": "cpu"}


def test_the_model_is_moved_to_its_device(monkeypatch):
    """In launched processes transformers' pipeline leaves it where it was loaded."""
    moved = []

    class Pipeline:
        class model:
            to = staticmethod(moved.append)

        class tokenizer:
            chat_template, pad_token, padding_side = "{{ x }}", "p", "right"

    monkeypatch.setattr("transformers.pipeline", lambda *_, **__: Pipeline)
    assert TransformersChatModel("name", "text", device="cuda:1")._pipeline is Pipeline
    assert TransformersChatModel("name", "text")._pipeline is Pipeline
    assert moved == ["cuda:1"]


def test_the_detector_s_own_words_say_max_objects(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "datasets_scripts.detection.detectors.make_detector", lambda spec, **options: asked.update({spec: options})
    )
    for spec in ("x:y?max_objects=5", "x:y?weights=z"):
        prepare_tools.make_tools(PrepareArguments("jsonl", "x", detector=spec, selector="none", max_objects=7), None)
    assert asked == {"x:y?max_objects=5": {}, "x:y?weights=z": {"max_objects": 7}}


# ---------------------------------------------------------------- the audit of what a selector chose


def test_phrases_asked_for_each_pair_are_no_leak_and_objects_are_ranked_by_spans():
    from datasets_scripts.audit.table import table_of_split
    from datasets_scripts.schema import post_features

    def post(name, phrases, chosen, *heads):
        pairs = [
            {
                "head": [h, h + 1],
                "tail": [3, 4],
                "relation": 1,
                "image_phrases": chosen,
                "objects": [h % 2],
                "tail_object": -1,
            }
            for h in heads
        ]
        empty = {"caption": None, "object_labels": ["", ""], "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]]}
        words = ["Ann", "Ann", "met", name]
        return {"id": name, "tokens": words, "image_id": "a", "image_phrases": phrases, "pairs": pairs, **empty}

    features = post_features(["None", "peer"], images=False, visual_feature_size=None)

    def broken(*posts):
        rows = [{**row, "pairs": [{**pair, "text_phrases": []} for pair in row["pairs"]]} for row in posts]
        table = table_of_split(datasets.Dataset.from_list(rows, features=features))
        return {check.field for check in invariants(table) if check.violations}

    honest = post("Bob", ["a hand"], [0], 0, 1), post("Cid", ["a case", "a hand"], [1, 0], 0)
    assert broken(*honest) == set()  # of one image, and of one pair of words at two places
    assert broken(post("Bob", ["a hand"], [], 0), post("Cid", ["a case"], [], 0)) == {"image_phrases"}
    again = post("Bob", ["a case", "a hand"], [1], 0)  # the same phrase for the same words, at another index
    assert broken(honest[0], again) == set()
    assert broken(honest[0], post("Bob", ["a case", "a hand"], [0], 0)) == {"pairs.image_phrases"}
