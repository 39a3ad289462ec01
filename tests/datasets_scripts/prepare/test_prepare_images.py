"""What a preparation makes of bad and odd images."""

import json
import struct

import datasets
import numpy as np
import pytest
from PIL import Image
from prepare_fakes import ColourFeatures, write_posts
from prepare_runs import ALL, lines, load, more_archive, run
from published_files import write_mnre

from datasets_scripts.prepare.images import is_kept
from modeling_vmhan.images import load_image


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def give_boxes(folder, row, boxes):
    rows = lines(folder / "train.jsonl")
    rows[row]["boxes"] = boxes
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(params=["missing", "corrupt", "truncated", "outside"])
def bad(request, tmp_path):
    """A folder whose second post's image is bad in one of four ways, and what the error says of it."""
    write_posts(folder := tmp_path / "mine", images=2, train=[0, 1, 0])
    path = folder / "images" / "1.png"
    if request.param == "missing":
        path.unlink()
        return folder, "train.jsonl, line 2, field 'image': .*'1.png'"
    if request.param == "outside":
        give_boxes(folder, 1, [[0, 0, 5, 5], [40, 0, 50, 5]])  # from the right border on: nothing of it is inside
        return folder, r"images/1.png .*box 1, \[40.0, 0.0, 50.0, 5.0\].* 40 x 30 .*skip_post"
    path.write_bytes(b"this is no image")
    if request.param == "truncated":
        noise(64, 64).save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[:1000])
    return folder, "images/1.png .*'train-1'.*--on_bad_image skip_image"


def test_a_bad_image_is_an_error_or_its_post_stays_without_it_or_is_left_out(bad):
    folder, message = bad
    with pytest.raises(ValueError, match=message):
        run(folder, **ALL)
    assert not (folder.parent / "out").exists()
    output = run(folder, on_bad_image="skip_image", **ALL)
    post = load(output)["train"][1]
    assert (post["id"], post["image_id"], post["image"], post["image_features"]) == ("train-1", "1.png", None, None)
    assert post["boxes"] == post["object_labels"] == post["object_features"] == []
    (skip,) = lines(output / "skipped.jsonl")
    assert str(folder) not in skip.pop("reason")
    assert skip == {"split": "train", "id": "train-1", "image_id": "1.png", "skipped": "image"}
    statistics = json.loads((output / "statistics.json").read_text())["splits"]["train"]
    assert (statistics["posts_with_image"], statistics["images_skipped"], statistics["images"]) == (2, 1, 1)
    output = run(folder, on_bad_image="skip_post", shard_size=1, **ALL)
    assert [post["id"] for post in load(output, split="train", streaming=True)] == ["train-0", "train-2"]
    assert [line["skipped"] for line in lines(output / "skipped.jsonl")] == ["post"]


@pytest.mark.parametrize(
    ("form", "size", "message"),
    [("PNG", (80, 60), "max_pixels=4,700, received 80 x 60 = 4,800"), ("EPS", (8, 8), "JPEG, PNG, .*%!PS-Adobe")],
)
def test_an_image_of_too_many_pixels_or_of_another_format_is_a_bad_one(form, size, message, tmp_path):
    write_posts(folder := tmp_path / "mine", images=2, train=[0, 1])
    noise(*size).save(folder / "images" / "1.png", form)
    with pytest.raises(ValueError, match=f"images/1.png .*'train-1'.*{message}"):
        run(folder, max_pixels=4_700, **ALL)
    output = run(folder, on_bad_image="skip_image", max_pixels=4_700, **ALL)
    assert [post["image"] is None for post in load(output)["train"]] == [False, True]
    assert "1.png" in lines(output / "skipped.jsonl")[0]["image_id"]


def test_a_jpeg_of_more_pixels_is_shrunk_as_it_is_read_and_its_boxes_with_it(tmp_path):
    write_posts(folder := tmp_path / "mine", images=1, train=[0])
    noise(800, 400).save(folder / "images" / "0.png", "JPEG")
    give_boxes(folder, 0, [[80, 40, 400, 200]])
    post = load(run(folder, max_pixels=100_000, max_side=200))["train"][0]
    assert post["image"].size == (200, 100) and post["boxes"] == [[20, 10, 100, 50]]


def test_every_image_may_be_bad(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0], validation=[0, None])
    (tmp_path / "mine" / "images" / "0.png").write_bytes(b"junk")
    for on_bad_image, splits in {"skip_image": {"train", "validation"}, "skip_post": {"validation"}}.items():
        output = run(tmp_path / "mine", on_bad_image=on_bad_image, figures=True)
        assert set(load(output)) == splits and not (output / "figures" / "contact_sheet.jpg").exists()
    (tmp_path / "mine" / "validation.jsonl").unlink()
    with pytest.raises(ValueError, match="on_bad_image: .*all .*skip_image"):
        run(tmp_path / "mine", on_bad_image="skip_post")


def test_a_source_s_missing_images_are_not_passed_over(tmp_path):
    """MNRE's builder only warns of them."""
    write_mnre(folder := tmp_path / "mnre", num_posts=2)
    (folder / "img_org" / "train").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "img_org" / "train" / "0.jpg")
    with pytest.raises(ValueError, match="on_bad_image: .*'1.jpg' of train.*skip_post"):
        run(folder, source="mnre")
    assert load(run(folder, source="mnre", on_bad_image="skip_image"), "mnre")["train"][1]["image"] is None


@pytest.mark.parametrize("kind", ["missing", "unreadable"])
def test_an_image_that_holds_a_tail_cannot_be_left_out_without_its_post(tmp_path, kind):
    folder = more_archive(tmp_path / "more")
    path = folder / "img_org" / "train" / "train-1.jpg"
    path.unlink() if kind == "missing" else path.write_bytes(b"junk")
    for on_bad_image, message in {"error": "train-1.jpg", "skip_image": "on_bad_image: .*'train-1.jpg'.*"}.items():
        with pytest.raises((OSError, ValueError), match=message):
            run(folder, source="more", on_bad_image=on_bad_image)
    posts = load(run(folder, source="more", on_bad_image="skip_post"), "more")["train"]
    assert posts["image_id"][:] == ["train-0.jpg", "train-2.jpg", "train-3.jpg"]
    assert all(len(boxes) == 2 for boxes in posts["boxes"])


def odd_image(kind, path):
    """Write an odd but good image; returns the boxes to give and the size and boxes to expect."""
    half, exif = [[0, 0, 20, 30]], Image.Exif()
    exif[0x0112] = 6  # stored sideways, 40 x 30 as one sees it
    if kind == "one pixel":
        Image.new("RGB", (1, 1), "red").save(path)
        return [[0, 0, 1, 1]], (1, 1), [[0, 0, 1, 1]]
    if kind == "12,000 pixels":
        Image.new("RGB", (12000, 40), "red").save(path)
        return [[6000, 0, 12000, 40], [0, 0, 0.5, 40]], (600, 2), [[300, 0, 600, 2], [0, 0, 0.025, 2]]
    if kind == "alpha":
        Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(path)
    elif kind == "palette":
        noise(40, 30).convert("P").save(path, transparency=3)
    elif kind == "rotated":
        noise(30, 40).save(path, format="JPEG", exif=exif)
    else:
        noise(40, 30).convert(kind).save(path, format="JPEG")
    return half, (40, 30), half


@pytest.mark.parametrize("kind", ["one pixel", "12,000 pixels", "CMYK", "palette", "L", "alpha", "rotated"])
def test_an_odd_image_becomes_upright_rgb_and_its_boxes_fit(tmp_path, kind):
    folder = tmp_path / "mine"
    write_posts(folder, images=1, train=[0])
    boxes, size, expected = odd_image(kind, folder / "images" / "0.png")
    give_boxes(folder, 0, boxes)
    post = load(run(folder, max_side=600, features="colours"))["train"][0]
    assert (post["image"].mode, post["image"].size) == ("RGB", size)
    np.testing.assert_allclose(post["boxes"], expected, rtol=1e-6)
    vectors = next(ColourFeatures().extract([(post["image"], [])]))  # the stored image is the one that was encoded
    np.testing.assert_array_equal(np.float16(post["image_features"]), vectors[0])
    if kind == "alpha":
        assert post["image"].getpixel((0, 0)) == (255, 255, 255)


def stored_image(folder):
    return load(run(folder))["train"].cast_column("image", datasets.Image(decode=False))[0]["image"]


def test_a_plain_image_keeps_its_bytes_and_an_animation_does_not(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0])
    path = tmp_path / "mine" / "images" / "0.png"
    noise(40, 30).save(path, format="JPEG", quality=60)
    assert stored_image(tmp_path / "mine") == {"bytes": path.read_bytes(), "path": "0.png"}
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, format="PNG", save_all=True, append_images=frames[1:])
    assert not is_kept(path.read_bytes(), max_side=100)


@pytest.mark.parametrize("exif", [b"MM\x00\x00\x00\x00\x00\x00", b"II", struct.pack("<2sHLH", b"II", 42, 8, 9999)])
def test_a_picture_with_damaged_exif_is_stored_anew(tmp_path, exif):
    write_posts(tmp_path / "mine", images=1, train=[0])
    path = tmp_path / "mine" / "images" / "0.png"
    Image.new("RGB", (64, 48), (9, 90, 200)).save(path, "PNG", exif=b"Exif\0\0" + exif)
    stored = stored_image(tmp_path / "mine")["bytes"]
    assert is_kept(stored, max_side=4096) and load_image(stored).tobytes() == load_image(path.read_bytes()).tobytes()


def test_one_image_with_two_lists_of_boxes(tmp_path):
    write_posts(tmp_path / "mine", images=1, train=[0, 0])
    give_boxes(tmp_path / "mine", 1, [[0, 0, 5, 5]])
    with pytest.raises(ValueError, match="boxes: .*'0.png'"):
        run(tmp_path / "mine")
