"""A run with --fit_none_bias: its scores, predictions, pipeline and later evaluation all answer with the bias."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline

import run_mmre
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from vmhan.scoring.none_bias import NoneBias
from vmhan.scoring.scorer import score
from vmhan.training import evaluate
from vmhan.training.arguments import parse_arguments
from vmhan.training.posts.data import load_posts


@pytest.fixture
def biased(workplace, tmp_path, monkeypatch):
    """(config, folder, metrics) of a run to which -0.8 was fitted, and the posts that it was asked to fit on."""
    asked = []

    def fit(logits, gold, posts, rule):
        asked.append((len(logits), posts, rule))
        return NoneBias(-0.8, f1_without=0.5, f1_cross_validated=0.6)

    monkeypatch.setattr("vmhan.training.command.fit_none_bias", fit)
    config = str(workplace / "tiny.yaml")
    flags = ["--do_train", "false", "--fit_none_bias", "true", "--output_dir", str(tmp_path / "run")]
    return config, tmp_path / "run", run_mmre.main([config, *flags]), asked


def predicted_of(rows):
    return [row["predicted"] for row in rows]


def test_scores_predictions_pipeline_and_evaluation_have_it(biased, tmp_path):
    config_file, folder, metrics, ((pairs, posts_of, rule),) = biased
    model, processor = (cls.from_pretrained(folder) for cls in (VMHANForRelationClassification, VMHANProcessor))
    config = model.config
    assert metrics["none_bias"] == config.none_bias == -0.8
    assert (metrics["validation_f1_cross_validated_none_bias"], rule.none_bias) == (0.6, 0.0)
    posts = load_posts(*parse_arguments([config_file, "--output_dir", "x"])[1:])
    counts = np.unique(posts_of, return_counts=True)[1]
    assert counts.tolist() == [len(pairs) for pairs in posts["validation"]["pairs"]] and counts.sum() == pairs

    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "test"]
    gold = [row["relation"] for row in rows]
    with torch.no_grad():
        logits = model.eval()(**processor(list(posts["test"]))).logits
    moved = logits - 0.8 * torch.eye(len(config.labels))[config.label2id[config.none_label]]
    expected = (moved / config.calibration_temperature).softmax(dim=-1)
    torch.testing.assert_close(torch.tensor([row["probabilities"] for row in rows]), expected, atol=1e-5, rtol=0)
    for name, answers in (("test_f1", moved), ("test_f1_without_none_bias", logits)):
        named = [config.labels[i] for i in answers.argmax(dim=-1)]
        assert metrics[name] == pytest.approx(score(gold, named, labels=config.labels)["f1"])
    assert [config.labels[i] for i in moved.argmax(dim=-1)] == predicted_of(rows)
    answers = sum(pipeline(model=str(folder), device="cpu")(posts["test"], batch_size=3), [])
    assert [answer["relation"] for answer in answers] == predicted_of(rows)
    assert [answer["score"] for answer in answers] == pytest.approx([row["score"] for row in rows], abs=1e-5)

    again = evaluate.main([str(folder), config_file, "--output_dir", str(tmp_path / "again")])
    for name in ("test_f1", "test_f1_without_none_bias", "test_nll", "validation_f1_without_none_bias"):
        assert again[name] == pytest.approx(metrics[name]), name
    read = [json.loads(line) for line in (tmp_path / "again" / "predictions.jsonl").read_text().splitlines()]
    assert predicted_of([row for row in read if row["split"] == "test"]) == predicted_of(rows)


def test_a_run_with_too_few_positives_has_none(workplace, tmp_path, caplog):
    flags = ["--do_train", "false", "--fit_none_bias", "true", "--output_dir", str(tmp_path)]
    metrics = run_mmre.main([str(workplace / "tiny.yaml"), *flags])
    assert metrics["none_bias"] == 0 and "validation_f1_without_none_bias" not in metrics
    assert json.loads((tmp_path / "config.json").read_text())["none_bias"] == 0


def test_the_flags_of_the_model_reach_its_config(workplace, tmp_path):
    flags = "--safe_start true --sample_nodes true --image_text_visibility isolated --do_train false".split()
    run_mmre.main([str(workplace / "tiny.yaml"), *flags, "--output_dir", str(tmp_path)])
    saved, processor = (json.loads((tmp_path / f"{name}config.json").read_text()) for name in ("", "processor_"))
    assert (saved["safe_start"], saved["sample_nodes"], saved["image_text_visibility"]) == (True, True, "isolated")
    assert processor["image_text_visibility"] == "isolated"
