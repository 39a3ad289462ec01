"""Visual features come to the collator as views of the mapped file, in float16, and change no number."""

import datasets
import numpy as np
import pytest
import torch
from scaling_posts import scaling_posts
from torch.utils.data import DataLoader

from modeling_vmhan import VMHANCollator
from vmhan.training.posts.mapped_features import FEATURE_COLUMNS, with_mapped_features


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Ten posts as `datasets` maps them from a file on the disk."""
    path = tmp_path_factory.mktemp("mapped") / "posts"
    scaling_posts(10).save_to_disk(path)
    return datasets.load_from_disk(path)


@pytest.fixture(scope="module")
def mapped(plain):
    return with_mapped_features(plain)


def buffers(column):
    """Address ranges of the numbers of an Arrow column."""
    for chunk in column.chunks:
        while chunk.type.num_fields:
            chunk = chunk.values
        yield range(chunk.buffers()[-1].address, chunk.buffers()[-1].address + chunk.buffers()[-1].size)


@pytest.mark.parametrize("order", [list(range(10)), [3, 1, 8]])
def test_features_are_views_of_the_file(plain, order):
    posts = with_mapped_features(plain.select(order))
    for row in [posts[0], *posts.__getitems__(list(range(len(posts))))]:
        for name in FEATURE_COLUMNS:
            view = row[name]
            if view is not None and view.size:
                assert view.dtype == np.float16 and not view.flags.owndata and not view.flags.writeable
                assert any(view.ctypes.data in buffer for buffer in buffers(plain.data.column(name)))


def test_they_are_the_features_and_the_rest_is_as_before(plain, mapped):
    assert len(mapped) == len(plain) and any(row["image_features"] is None for row in plain)
    for row, expected in zip((mapped[i] for i in range(10)), plain, strict=True):
        assert (row["image_features"] is None) == (expected["image_features"] is None)
        assert row["object_features"].shape == (len(expected["object_features"]), 8)
        for name in FEATURE_COLUMNS:
            if expected[name]:
                np.testing.assert_array_equal(row[name], np.array(expected[name], dtype=np.float16))
        rest = set(expected) - set(FEATURE_COLUMNS)
        assert {name: row[name] for name in rest} == {name: expected[name] for name in rest}
    bare = plain.remove_columns(list(FEATURE_COLUMNS))
    assert with_mapped_features(bare) is bare


def test_the_batch_keeps_half_precision_and_the_model_says_the_same(mapped, make_model, make_processor):
    model = make_model()
    processor = make_processor(model.config)
    posts = [mapped[i] for i in range(len(mapped))]
    lists = [{**row, **{name: np.float32(row[name]).tolist() for name in FEATURE_COLUMNS}} for row in posts]
    for row, given in zip(lists, posts, strict=True):
        row["image_features"] = None if given["image_features"] is None else row["image_features"]
    half, single = processor(posts), processor(lists)
    for name in FEATURE_COLUMNS:
        assert half[name].dtype == torch.float16 and single[name].dtype == torch.float32
        assert torch.equal(half[name].float(), single[name])
    with torch.no_grad():
        assert torch.equal(model(**half).logits, model(**single).logits)
    mixed = processor([posts[0], lists[1]])
    assert {mixed[name].dtype for name in FEATURE_COLUMNS} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_two_workers_give_the_same_batches(mapped, make_processor):
    collator = VMHANCollator(make_processor())
    batches = [list(DataLoader(mapped, batch_size=4, collate_fn=collator, num_workers=n)) for n in (0, 2)]
    assert len(batches[0]) == len(batches[1]) == 3
    for alone, with_workers in zip(*batches, strict=True):
        assert all(torch.equal(alone[name], with_workers[name]) for name in alone)
