"""Posts with the pictures of other posts: a derangement of images, and data that stay true."""

import json

import datasets
import pytest
from PIL import Image

from datasets_scripts.leaks import ORDER_BLIND, leak_status, mark_leaky, mark_protocol, protocol_of
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph
from vmhan.training.arguments import DataArguments, RunArguments
from vmhan.training.posts.data import load_posts
from vmhan.training.posts.shuffled_images import VISUAL_COLUMNS, another_post, with_shuffled_images


LABELS = ["None", "peer"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "images",
    [
        ["a", "b"],
        ["a", "b", "c"],
        [str(i) for i in range(50)],
        [str(i % 7) for i in range(50)],  # each of them at seven posts or eight
        ["a"] * 20 + ["b"],
        ["a", None, "b", None],  # two posts without an image
    ],
    ids=["2", "3", "50", "shared", "one is nearly everywhere", "some without"],
)
def test_each_post_gets_another_image(images, seed):
    others = another_post(images, seed)
    assert others == another_post(images, seed)
    for post, (image, other) in enumerate(zip(images, others, strict=True)):
        assert other == post if image is None else images[other] not in (None, image)
    by_image = {(image, images[other]) for image, other in zip(images, others) if image is not None}
    distinct = set(images) - {None}
    assert len(by_image) == len(distinct) == len({theirs for _, theirs in by_image})  # each image goes to one other
    for image in distinct:  # whose posts take turns
        given = [other for own, other in zip(images, others) if own == image]
        there = images.count(images[given[0]])
        assert len(set(given)) == min(len(given), there)


def test_another_seed_is_another_exchange():
    images = [str(i) for i in range(50)]
    assert another_post(images, 1) != another_post(images, 2)


@pytest.mark.parametrize(
    ("images", "received"), [(["a", "a"], "1 among 2"), ([None, None], "0 among 2"), ([], "0 am")]
)
def test_less_than_two_images_cannot_be_exchanged(images, received):
    with pytest.raises(ValueError, match=f"--shuffled_images 5.*{received}"):
        another_post(images, 5)


def post(name, image_id, *, pairs=1, **visual):
    tokens = f"{name} met Bob in Paris".split()
    spans = [((0, 1), (2, 3)), ((2, 3), (4, 5))][:pairs]
    made = [
        new_pair(head, tail, "peer", text_phrases=[(3, 5)], objects=[i], image_phrases=[i])
        for i, (head, tail) in enumerate(spans)
    ]
    visual = {"boxes": [[0, 0, 1, 1], [0, 0, 2, 2]], "object_labels": [f"{name} hat", f"{name} dog"], **visual}
    phrases = {"caption": f"a photo of {name}", "image_phrases": [f"{name} hat", f"{name} dog"]}
    return with_hypergraph(new_post(name, tokens, image_id, made, **{**phrases, **visual}))


def split_of(*posts, vectors=()):
    features = post_features(LABELS, images=False, visual_feature_size=2 if vectors else None)
    rows = [dict(row) for row in posts]
    for row, value in zip(rows, vectors):
        row |= {"image_features": [value] * 2, "object_features": [[value] * 2] * 2}
    made = datasets.Dataset.from_list(rows, features=features)
    mark_protocol(made.info, ORDER_BLIND)
    mark_leaky(made.info, ["a test"])
    return made


def test_words_stay_and_all_of_the_picture_moves_together():
    names = ["Ann", "Cy", "Dan", "Eve"]
    before = split_of(
        *(post(name, f"{name}.jpg", pairs=1 + i % 2) for i, name in enumerate(names)), vectors=[1, 2, 3, 4]
    )
    after = with_shuffled_images(datasets.DatasetDict(train=before), 1)["train"]
    assert set(before.column_names) - set(after.column_names) == {"hypergraph"}
    assert after.features["pairs"] == before.features["pairs"]
    assert leak_status(after) == ["a test"] and protocol_of(after) == ORDER_BLIND
    for own, made in zip(before, after):
        (other,) = [row for row in before if row["image_id"] == made["image_id"]]
        assert other["id"] != own["id"]
        for name in ("image_features", "object_features", "boxes", "object_labels", "caption", "image_phrases"):
            assert made[name] == other[name]
        assert (made["id"], made["tokens"]) == (own["id"], own["tokens"])
        for number, pair in enumerate(made["pairs"]):
            theirs = other["pairs"][number % len(other["pairs"])]
            assert pair["objects"] == theirs["objects"] and pair["image_phrases"] == theirs["image_phrases"]
            for name in ("head", "tail", "relation", "text_phrases"):
                assert pair[name] == own["pairs"][number][name]


def test_posts_of_one_image_do_not_get_it_back_whoever_wrote_them_and_without_an_id_content_counts():
    shared = {"caption": "a hat", "image_phrases": ["a hat"], "object_labels": [], "boxes": []}
    rows = split_of(*(post(name, None, **shared) for name in ("Ann", "Cy", "Dan")), post("Eve", None))
    after = with_shuffled_images(datasets.DatasetDict(train=rows), 1)["train"]
    assert after["caption"] == ["a photo of Eve"] * 3 + ["a hat"]
    bare = new_post("f", ["F", "met", "Bob"], None, [new_pair((0, 1), (2, 3), "peer")])
    rows = split_of(post("Ann", "1"), with_hypergraph(bare), post("Cy", "2"))
    assert with_shuffled_images(datasets.DatasetDict(train=rows), 1)["train"]["image_id"] == ["2", None, "1"]


def test_each_split_is_exchanged_within_itself_and_only_the_posts_that_are_chosen():
    train = split_of(*(post(name, name) for name in ("Ann", "Cy", "Dan"))).select([2, 0])
    test = split_of(*(post(name, name) for name in ("Eve", "Fay")))
    after = with_shuffled_images(datasets.DatasetDict(train=train, test=test), 1)
    assert (after["train"]["image_id"], after["test"]["image_id"]) == (["Ann", "Dan"], ["Fay", "Eve"])


def test_a_tail_that_is_an_object_has_no_other_image():
    region = new_post("a", ["Ann"], "a.jpg", [new_pair((0, 1), (), "peer", tail_object=0)], boxes=[[0, 0, 1, 1]])
    rows = split_of(with_hypergraph(region), post("Cy", "c.jpg"))
    with pytest.raises(ValueError, match="--shuffled_images 3.*1 pairs of test.*object"):
        with_shuffled_images(datasets.DatasetDict(test=rows), 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"visual": "none"}, "train: --shuffled_images 1.*received 0"),
        ({"streaming": True}, "--shuffled_images 1.*--streaming"),
        ({"shuffled_images": -1}, "--shuffled_images.*-1"),
    ],
)
def test_where_there_is_nothing_to_exchange(tmp_path, flags, message):
    split_of(post("Ann", "a"), post("Cy", "c")).remove_columns("hypergraph").to_parquet(tmp_path / "train.parquet")
    run_args = RunArguments(output_dir="unused", use_cpu=True, max_steps=1, do_train=True)
    with pytest.raises(ValueError, match=message):
        load_posts(DataArguments(dataset=str(tmp_path), **{"shuffled_images": 1, **flags}), run_args)


def test_zero_is_left_out():
    assert DataArguments(shuffled_images=0).shuffled_images is None


def parquet(folder):
    rows = split_of(*(post(name, f"{name}.jpg") for name in ("Ann", "Cy", "Dan")), vectors=[1, 2, 3])
    rows.to_parquet(folder / "train.parquet")
    return {"dataset": str(folder)}


def jsonl(folder):
    rows = [
        {"id": name, "text": f"{name} met Bob", "image": f"{name}.png", "caption": f"a photo of {name}"}
        | {"pairs": [{"head": name, "tail": "Bob", "relation": "None" if name == "Cy" else "peer"}]}
        for name in ("Ann", "Cy", "Dan")
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row["image"])
    return {"dataset": "jsonl", "data_dir": str(folder)}


def postcards(folder):
    return {"dataset": "postcards", "num_train": 3, "num_validation": 2, "num_test": 2}


@pytest.mark.parametrize("make", [parquet, jsonl, postcards])
def test_every_data_set_is_read_so(make, tmp_path):
    run_args = RunArguments(output_dir="unused", use_cpu=True, do_train=True)
    (tmp_path / "posts").mkdir()
    flags = {"cache_dir": str(tmp_path / "cache"), **make(tmp_path / "posts")}
    own, other = (load_posts(DataArguments(**flags, **more), run_args) for more in ({}, {"shuffled_images": 1}))
    for split, rows in own.items():
        assert [row["id"] for row in rows] == [row["id"] for row in other[split]]
        images = dict(zip(rows["id"], rows["image_id"]))
        assert all(row["image_id"] != images[row["id"]] for row in other[split])
        by_image = {row["image_id"]: row for row in rows}
        for row in other[split]:
            seen = {name: value for name, value in row.items() if name in VISUAL_COLUMNS}
            assert seen and seen == {name: by_image[row["image_id"]][name] for name in seen}
