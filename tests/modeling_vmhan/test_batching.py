"""Posts of like length share a pass of the pipeline, and no post notices."""

import math

import pytest
import torch

from modeling_vmhan import batching
from modeling_vmhan.batching import EncodedPost, of_like_length


TEXT = "Ann met Bob in Paris with the band"
LONG = {"text": " ".join([TEXT] * 10), "pairs": [{"head": (0, 3), "tail": (8, 11)}]}
SHORT = {"text": TEXT, "pairs": [{"head": "Ann", "tail": "Bob"}, {"head": "Bob", "tail": "Paris"}]}


def encoded(*rows):
    return EncodedPost("a post", [{"input_ids": [0] * length} for length in rows], [])


@pytest.mark.parametrize(
    ("posts", "padding", "budget", "expected"),
    [
        ([[9], [9], [9]], 0, 100, [[0, 1, 2]]),
        ([[9], [5], [9]], 0, 100, [[1], [0, 2]]),
        ([[9], [5], [9]], 4, 100, [[1, 0, 2]]),
        ([[20], [5], [6], [19]], 3, 100, [[1, 2], [3, 0]]),
        ([[20], [5, 5, 5], [6]], 2, 100, [[1], [2], [0]]),  # a post's rows stay together
        ([[9], [9], [9]], math.inf, 18, [[0, 1], [2]]),
        ([[90], [9]], math.inf, 18, [[1], [0]]),  # one post alone may have more
        ([], 0, 100, []),
    ],
)
def test_posts_are_grouped_by_length_padding_and_memory(posts, padding, budget, expected, monkeypatch):
    monkeypatch.setattr(batching, "TOKENS_A_PASS", budget)
    assert of_like_length([encoded(*rows) for rows in posts], padding=padding) == expected


@pytest.mark.parametrize("mode", ["marker", "span", "packed"])
def test_short_posts_are_not_padded_to_a_long_one(mode, make_model, make_pipe):
    pipe = make_pipe(model=make_model("text_only", entity_representation=mode))
    widths = []
    forward = pipe.model.vmhan.encode_text
    pipe.model.vmhan.encode_text = lambda ids, *others: widths.append(ids.shape[1]) or forward(ids, *others)
    posts = [SHORT, LONG, SHORT, SHORT, LONG]
    answers = pipe(posts, batch_size=len(posts))
    assert len(widths) == 2 and widths[0] < 30 < widths[1]
    for post, answer in zip(posts, answers, strict=True):  # in the order of the questions
        alone = pipe(post)
        assert [pair["head"] for pair in answer] == [pair["head"] for pair in alone]
        scores = [torch.tensor([pair["score"] for pair in each]) for each in (answer, alone)]
        torch.testing.assert_close(*scores, atol=1e-5, rtol=1e-4)
