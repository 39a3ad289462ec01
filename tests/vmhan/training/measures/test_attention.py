"""The share of pairs whose gold object has the highest attention, in metrics.json where the data have gold objects."""

import json
from types import SimpleNamespace

import datasets
import pytest
import torch

import run_mmre
from modeling_vmhan import VMHANProcessor
from vmhan.training.arguments import parse_arguments
from vmhan.training.measures import attention
from vmhan.training.measures.attention import attention_accuracy
from vmhan.training.posts.data import load_posts


def fake_trainer(batch, **fields):
    """A trainer whose model is asked about one batch, whatever the rows say."""

    class Model:
        config = SimpleNamespace(
            **{"hypergraph_encoder": "vhan", "hypergraph_scope": "pair", "num_objects": 2} | fields
        )

        def eval(self):
            pass

        def __call__(self, *, output_attentions, **inputs):
            return SimpleNamespace(attentions=None, incidence=None)

    return SimpleNamespace(
        model=Model(),
        args=SimpleNamespace(eval_batch_size=8),
        data_collator=lambda rows: batch,
        _remove_unused_columns=lambda posts: posts,
        _prepare_inputs=lambda inputs: inputs,
    )


# nodes: head, tail, text phrase, image, two objects; the objects' weights below
WEIGHTS = [[0.3, 0.1], [0.1, 0.3], [0.3, 0.1], [0.3, 0.1], [0.0, 0.3]]
OBJECTS = [[5, 6], [5, 6], [6, 5], [5, -1], [6, 5]]


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ([5, 5, 6, -1, -1], 2 / 3),  # found, missed, found; two pairs that no object decides
        ([-1, 6, 5, 5, 5], 2 / 3),  # found, missed, the only object, found
        ([7, -1, -1, 5, 8], None),  # objects that are none of the pair's nodes, and an only one
    ],
)
def test_the_share_of_pairs_whose_gold_object_weighs_most(gold, expected, monkeypatch, caplog):
    caplog.set_level("INFO")
    weight = torch.cat([torch.full((5, 4), 0.9), torch.tensor(WEIGHTS)], dim=1)
    monkeypatch.setattr(attention, "attention_rollout", lambda *_: SimpleNamespace(node_weight=weight))
    batch = {"pair_objects": torch.tensor(OBJECTS), "text_phrase_tokens": torch.zeros(5, 1, 1)}
    posts = datasets.Dataset.from_list([{"gold_objects": gold}])
    accuracy = attention_accuracy(fake_trainer(batch), posts)
    assert accuracy == (None if expected is None else pytest.approx(expected))
    for fields in ({"hypergraph_encoder": "gat"}, {"num_objects": 0}):
        assert attention_accuracy(fake_trainer(batch, **fields), posts) is None
        assert "no attention_accuracy" in caplog.text
        caplog.clear()
    assert attention_accuracy(fake_trainer(batch), posts.rename_column("gold_objects", "other")) is None


def test_a_batch_in_which_no_pair_has_an_object_counts_for_nothing():
    batch = {"pair_objects": torch.zeros(5, 0, dtype=torch.long), "text_phrase_tokens": torch.zeros(5, 1, 1)}
    posts = datasets.Dataset.from_list([{"gold_objects": [-1] * 5}])
    assert attention_accuracy(fake_trainer(batch), posts) is None


def test_a_post_s_hypergraph_has_an_object_once_wherever_it_stands(monkeypatch):
    """The rollout of each pair's own nodes over the post's, of which `object_nodes` are the pair's objects."""
    nodes = torch.tensor([[7, 2], [7, 2], [2, 7], [7, -1], [2, 7]])
    weight = torch.full((5, 9), 0.9).scatter(1, nodes.clamp(min=0), torch.tensor(WEIGHTS))
    asked = []
    monkeypatch.setattr(
        attention, "attention_rollout", lambda *given: asked.append(given[2]) or SimpleNamespace(node_weight=weight)
    )
    read = {"pair_to_example": torch.zeros(5, dtype=torch.long), "entity_nodes": torch.zeros(5, 3, dtype=torch.long)}
    batch = {"pair_objects": torch.tensor(OBJECTS), "object_nodes": nodes, **read}
    posts = datasets.Dataset.from_list([{"gold_objects": [5, 5, 6, -1, -1]}])
    assert attention_accuracy(fake_trainer(batch, hypergraph_scope="post"), posts) == pytest.approx(2 / 3)
    assert all(torch.equal(one, other) for one, other in zip(asked[0], read.values(), strict=True))


def test_a_run_on_postcards_has_it_and_no_model_reads_the_column(finished, workplace, tmp_path):
    output, metrics = finished
    saved = json.loads((output / "metrics.json").read_text())
    assert 0 <= saved["test_attention_accuracy"] == metrics["test_attention_accuracy"] <= 1
    tiny = [str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path)]
    posts = load_posts(*parse_arguments(tiny)[1:])["test"][:]
    posts = [dict(zip(posts, values)) for values in zip(*posts.values())]
    processor = VMHANProcessor.from_pretrained(output)
    read = processor(posts)
    for change in ({"gold_objects": [0] * 9}, {"gold_objects": None}):
        other = processor([post | change for post in posts])
        assert all(torch.equal(read[name], other[name]) for name in {*read, *other})


def test_a_run_of_the_post_s_scope_has_it_too(workplace, tmp_path):
    flags = ["--hypergraph_scope", "post", "--do_train", "false", "--output_dir", str(tmp_path)]
    metrics = run_mmre.main([str(workplace / "tiny.yaml"), *flags])
    assert "test_f1" in metrics and 0 <= metrics["test_attention_accuracy"] <= 1
