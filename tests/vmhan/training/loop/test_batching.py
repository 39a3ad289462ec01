"""Batches of a token budget: each post once, none above it, as many on every process, the same after a stop."""

import logging
from collections import Counter

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhan.training.arguments import RunArguments
from vmhan.training.loop.batching import PLANS, TokenBudgetSampler, split_to
from vmhan.training.posts.data import with_lengths


ROWS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=60)


def cost(batch, rows):
    return sum(len(rows[post]) for post in batch) * max(max(rows[post]) for post in batch)


@settings(max_examples=25)
@given(rows=ROWS, tokens=st.integers(1, 200), processes=st.integers(1, 4), epoch=st.integers(0, 2 * PLANS))
def test_each_post_once_within_the_budget_and_as_many_batches_each_epoch(rows, tokens, processes, epoch):
    sampler = TokenBudgetSampler(rows, tokens, num_processes=processes)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(post for batch in batches for post in batch) == list(range(len(rows)))
    assert all(cost(batch, rows) <= tokens or len(batch) == 1 for batch in batches)
    assert len(batches) == len(sampler) and (len(sampler) % processes == 0 or len(sampler) == len(rows))


@given(rows=ROWS, tokens=st.integers(1, 200))
def test_without_shuffling_posts_stay_in_their_order_and_batches_are_full(rows, tokens):
    batches = list(TokenBudgetSampler(rows, tokens, shuffle=False))
    assert [post for batch in batches for post in batch] == list(range(len(rows)))
    for batch, following in zip(batches, batches[1:], strict=False):
        assert cost([*batch, following[0]], rows) > tokens


@pytest.fixture(scope="module")
def sampler():
    lengths = torch.randint(10, 60, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    return TokenBudgetSampler([[length] for length in lengths], 512, seed=3, num_processes=2)


def test_epochs_differ_and_come_again_and_accelerate_deals_them_out_without_doubling_any(sampler):
    epochs = []
    for number in (0, 1, PLANS):
        sampler.set_epoch(number)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2] and Counter(map(frozenset, epochs[0])) != Counter(map(frozenset, epochs[1]))
    shards = [list(BatchSamplerShard(sampler, num_processes=2, process_index=rank)) for rank in range(2)]
    assert len(shards[0]) == len(shards[1])
    assert sorted(post for shard in shards for batch in shard for post in batch) == list(range(400))


def test_batches_hold_like_lengths_and_come_in_no_order_of_length(sampler):
    batches = list(sampler)
    padded = sum(len(batch) * max(sampler.longest[batch]) for batch in batches)
    assert sampler.longest.sum() > 0.9 * padded
    means = torch.tensor([sampler.longest[batch].mean() for batch in batches])
    assert abs(torch.corrcoef(torch.stack([means, torch.arange(len(means)).to(means)]))[0, 1]) < 0.5


def test_the_largest_batches_are_split():
    assert split_to([[0], [1, 2, 3, 4]], 3) == [[0], [1, 2], [3, 4]]
    assert split_to([[0], [1]], 5) == [[0], [1]]


def test_a_post_above_the_budget_is_alone_and_said_to_be(caplog):
    with caplog.at_level(logging.WARNING):
        batches = list(TokenBudgetSampler([[5], [9, 30], [5]], 20, shuffle=False))
    assert batches == [[0], [1], [2]]
    assert "1 of 3 posts" in caplog.text and "largest 60" in caplog.text


@pytest.mark.parametrize("representation", ["marker", "span", "packed"])
def test_the_lengths_are_those_the_encoder_sees(representation, make_processor, posts):
    """Markers and the image's text included; a row a pair with markers in the sentence, one a sentence otherwise."""
    processor = make_processor(entity_representation=representation, max_image_text_length=4)
    given = [{name: value for name, value in post.items() if name != "image"} for post in posts()]
    lengths = [row for post in given for row in processor.row_lengths(post)]
    batch = processor(given)
    assert lengths == batch["attention_mask"].sum(dim=1).tolist()
    assert len(set(lengths)) > 1


def test_the_lengths_become_a_column(make_processor, tmp_path):
    post = {"id": "a", "tokens": ["ann", "met", "bob"], "pairs": [{"head": [0, 1], "tail": [2, 3]}] * 2}
    rows = Dataset.from_list([post, post])
    processor = make_processor(visual_feature_size=0)
    expected = [[9, 9]] * 2  # [CLS], three words, four markers, [SEP]
    columns = {}
    for flags in ({"tokens_per_batch": 64}, {"train_sampling_strategy": "group_by_length"}, {}):
        run_args = RunArguments(output_dir=str(tmp_path), use_cpu=True, **flags)
        splits = with_lengths(DatasetDict(train=rows, test=rows), processor, run_args)
        columns[str(flags)] = [
            rows["length"][:] if "length" in rows.column_names else None for rows in splits.values()
        ]
    assert list(columns.values()) == [[expected, expected], [[9, 9], None], [None, None]]
