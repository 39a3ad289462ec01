"""benchmarks.findings.caption_information: bits where captions tell the relation, none where they do not."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from benchmarks.findings import caption_information
from benchmarks.findings.caption_information import Pairs, fit, gain


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, number in {"NUM_COMPONENTS": 3, "NUM_FOLDS": 3, "NUM_CONTROLS": 1}.items():
        monkeypatch.setattr(caption_information, name, number)


def made(num_posts, seed, informs):
    """Two pairs a post of three relations, of which the text knows nothing, a caption's first number all or none."""
    rng = np.random.default_rng(seed)
    labels, captions = rng.integers(0, 3, num_posts), rng.normal(size=(num_posts, 5))
    if informs:
        captions[:, 0] += 4 * labels
    even = torch.full((2 * num_posts, 3), 1 / 3, dtype=torch.double).log()
    return Pairs(even, torch.from_numpy(labels.repeat(2)), np.arange(num_posts).repeat(2)), captions


@pytest.mark.parametrize("informs", [True, False])
def test_what_captions_tell_is_found_and_nothing_else(informs):
    (train, of_train), (scored, of_scored) = made(80, 0, informs), made(60, 1, informs)
    penalty, saved = gain(train, scored, of_train, of_scored)
    assert saved.shape == (120,)
    if informs:
        assert 0.6 < saved.mean() <= np.log2(3) and np.isfinite(penalty)
    else:
        assert abs(saved.mean()) < 0.05


def test_without_captions_the_text_is_recalibrated_alone():
    """P(relation) of an overconfident text model: a is below 1, W stays 0, and an infinite penalty allows no more."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, 400))
    right = torch.from_numpy(rng.random(400) < 0.7)
    claimed = torch.where(right, labels, 1 - labels)
    log_probabilities = torch.full((400, 2), 0.001, dtype=torch.double).scatter(1, claimed[:, None], 0.999).log()
    scale, bias, weight = fit(
        Pairs(log_probabilities, labels, np.arange(400)), torch.randn(400, 4).double(), float("inf")
    )
    share = right.double().mean()
    assert float(scale) == pytest.approx(float((share / (1 - share)).log() / np.log(999)), abs=0.02)
    assert not weight.any() and bias.abs().max() < 0.3


def test_own_captions_stand_beside_those_of_other_posts(tmp_path, monkeypatch, capsys):
    splits = {"train": made(61, 0, True), "validation": made(40, 1, True)}

    def load_posts(data_args, run_args):
        rows = {s: [{"caption": f"{s} {i}", "number": i} for i in range(len(of[1]))] for s, of in splits.items()}
        return DatasetDict({split: Dataset.from_list(of) for split, of in rows.items()})

    def text_only(run, posts):
        pairs, _ = splits[posts[0]["caption"].split()[0]]
        numbers = [post["number"] for post in posts]
        index = np.flatnonzero(np.isin(pairs.post, numbers))
        return Pairs(pairs.log_probabilities[index], pairs.labels[index], pairs.post[index] - min(numbers))

    def embeddings(encoder, tokenizer, texts):
        return np.array([splits[text.split()[0]][1][int(text.split()[1])] for text in texts])

    for name, stub in {"load_posts": load_posts, "text_only": text_only, "sentence_embeddings": embeddings}.items():
        monkeypatch.setattr(caption_information, name, stub)
    monkeypatch.setattr(caption_information, "load_text_encoder", lambda name: (torch.nn.Identity(), None))
    asked = ["run", "--data_dir", "none", "--skipped", "1", "--output_dir", str(tmp_path)]
    caption_information.main([*asked, "--captions", "llava_next", "qwen"])
    written = json.loads((tmp_path / "information.json").read_text())
    names = [name + other for name in ("llava_next", "qwen", "all") for other in ("", ", of other posts 1")]
    assert list(written["captions"]) == names and written["pairs"] == 80
    for name in names[::2]:
        own, other = written["captions"][name], written["captions"][f"{name}, of other posts 1"]
        assert own["low"] > 0.5 > 0.1 > other["bits"]
    assert "bits a pair without captions, 80 pairs" in capsys.readouterr().out
