"""benchmarks.findings.frozen_text: rows of a sweep over the states of a text encoder that is not trained."""

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from transformers import AutoModel

from benchmarks.findings import frozen_text
from benchmarks.findings.frozen_text import RememberedStates, without_first
from modeling_vmhan import VMHANModel
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import DONE, do_run
from vmhan.scoring.predictions import read_predictions


@pytest.mark.parametrize("form", ["marker", "packed"])
def test_states_are_those_of_the_encoder_and_are_computed_once(make_model, encode, posts, form):
    model = make_model(entity_representation=form)
    inputs = encode(model, posts())
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")
    text = [inputs.get(name) for name in names]
    calls = []

    def counted(*args):
        calls.append(len(args[1]))
        return VMHANModel.encode_text(*args)

    remembered, expected = RememberedStates(counted), model.vmhan.eval().encode_text(*text)
    mask = inputs["attention_mask"].unsqueeze(-1)
    model.train()
    states = remembered(model.vmhan, *text)
    torch.testing.assert_close(states * mask, expected * mask, rtol=0, atol=1e-5)
    assert not states.requires_grad and model.vmhan.text_encoder.training
    first = [None if array is None else array[:1] for array in text]  # of another batch, as long as it
    assert torch.equal(remembered(model.vmhan, *first)[0], states[0]) and calls == [len(states)]


def test_the_first_posts_of_the_train_split_are_left_out():
    splits = DatasetDict(train=Dataset.from_dict({"id": ["a", "b", "c"]}), validation=Dataset.from_dict({"id": ["d"]}))
    left = without_first(lambda number: splits if number == 1 else None, 2)(1)
    assert left["train"]["id"] == ["c"] and left["validation"]["id"] == ["d"]


def test_rows_are_trained_over_the_encoder_of_a_run(tmp_path, tokenizer, make_text_config):
    AutoModel.from_config(make_text_config()).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    flags = {
        "text_encoder": str(tmp_path / "encoder"), "dataset": "postcards", "num_train": 12, "num_validation": 6,
        "num_test": 2, "visual": "none", "use_cpu": True, "cache_dir": str(tmp_path / "cache"), "num_train_epochs": 1,
        "do_train": True, "learning_rate": 0.01, "head_learning_rate": 0.01,
    }  # fmt: skip
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(flags))
    rows = {"text": {"preset": "text_only"}, "full": {"preset": "full"}}
    content = {"datasets": {"postcards": {"config": "base.yaml"}}, "rows": rows, "reference": "text"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (first,) = plan_runs(read_sweep(tmp_path / "sweep.yaml"), tmp_path / "first", rows=["text"])
    assert do_run(first, keep_weights=True) == DONE
    saved, encode_text, kept = load_file(first.folder / "model.safetensors"), VMHANModel.encode_text, []
    do = frozen_text.do_run
    frozen_text.do_run = lambda run, keep_weights: kept.append(run) or do(run, keep_weights=True)
    try:
        asked = [str(first.folder), str(tmp_path / "sweep.yaml"), "--results", str(tmp_path / "rows")]
        asked += ["--skipped", "4"]
        assert frozen_text.main([*asked, "--", "--num_train_epochs", "2"]) == 0
        assert frozen_text.main([*asked, "--", "--num_train_epochs", "2"]) == 0  # nothing is left to do
    finally:
        frozen_text.do_run = do
    assert [run.row for run in kept] == ["text", "full"] and VMHANModel.encode_text is encode_text
    for run in kept:
        weights = load_file(run.folder / "model.safetensors")
        encoder = [name for name in weights if "text_encoder." in name]
        assert encoder and all(torch.equal(weights[name], saved[name]) for name in encoder)
        assert len(read_predictions(run.folder).split("validation")) > 0
    assert not torch.equal(weights["classifier.weight"], saved["classifier.weight"])
    assert frozen_text.main([*asked, "--rows", "text", "--seeds", "2", "--", "--preset", "fool"]) == 1
    assert (tmp_path / "rows" / "postcards" / "text" / "seed-2" / "failed.txt").is_file()
