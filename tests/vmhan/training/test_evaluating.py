"""vmhan evaluate, runs on data that no builder made, and what the model sees of the pictures."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import yaml
from transformers import TrainingArguments

import run_mmre
from modeling_vmhan import VMHANConfig
from modeling_vmhan.images import load_image
from vmhan.scoring.error_detection import error_aurocs
from vmhan.scoring.predictions import UNCERTAINTIES
from vmhan.training import evaluate
from vmhan.training.arguments import RunArguments, parse_arguments
from vmhan.training.posts.data import load_posts
from vmhan.training.results import complete, prediction_rows


SCORES = ("validation_f1", "test_f1", "test_accuracy", "test_precision", "temperature")
FEATURES = ("image_features", "object_features")


@pytest.fixture
def config(workplace):
    return str(workplace / "tiny.yaml")


@pytest.fixture
def posts(config):
    return load_posts(*parse_arguments([config, "--output_dir", "x"])[1:])


def test_a_finished_run_is_evaluated_into_another_folder(workplace, finished):
    """Alone by its own settings, of which run.json does not have the cache."""
    trained, metrics = finished
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    local = ["--cache_dir", str(workplace / "cache"), "--use_cpu", "true", "--disable_tqdm", "true"]
    evaluated = evaluate.main([str(trained), *local])
    assert {name: evaluated[name] for name in SCORES} == {name: pytest.approx(metrics[name]) for name in SCORES}
    again = trained / "evaluated"
    rows = [(folder / "predictions.jsonl").read_text().splitlines() for folder in (trained, again)]
    assert [json.loads(row)["predicted"] for row in rows[0]] == [json.loads(row)["predicted"] for row in rows[1]]
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before
    run, made = (json.loads((folder / "run.json").read_text()) for folder in (again, trained))
    assert (run["model"], run["training"], run["base_model"]) == (made["model"], made["training"], made["base_model"])
    assert run["trained_model"] == "full" and run["command"].startswith("vmhan evaluate full ")
    assert (again / "config.json").exists() and not (again / "model.safetensors").exists()
    shutil.rmtree(again)


def test_an_evaluated_model_keeps_its_temperature(config, finished, posts, tmp_path):
    trained, metrics = finished
    posts["test"].to_parquet(tmp_path / "posts" / "test.parquet")
    flags = ["--dataset", str(tmp_path / "posts"), "--output_dir", str(tmp_path / "again")]
    evaluated = evaluate.main([str(trained), config, *flags])
    assert evaluated["temperature"] == metrics["temperature"] != 1 and "validation_f1" not in evaluated
    assert evaluated["test_ece"] == pytest.approx(metrics["test_ece"])


def test_a_model_is_evaluated_with_the_pictures_of_other_posts(config, finished, tmp_path):
    trained, metrics = finished
    assert "shuffled_images" not in metrics
    flags = [config, "--output_dir", str(tmp_path / "other"), "--shuffled_images", "1"]
    other = evaluate.main([str(trained), *flags])
    assert other["shuffled_images"] == 1 and other["test_loss"] != metrics["test_loss"]
    run = json.loads((tmp_path / "other" / "run.json").read_text())
    assert (
        run["data"]["shuffled_images"] == 1
        and "shuffled_images" not in json.loads((trained / "run.json").read_text())["data"]
    )
    same = evaluate.main([str(trained), *flags[:-1], "0", "--output_dir", str(tmp_path / "same")])
    assert "shuffled_images" not in same and same["test_loss"] == pytest.approx(metrics["test_loss"])


def test_predictions_say_what_the_variances_do_and_metrics_which_score_finds_errors(config, finished, tmp_path):
    """By the pipeline's own numbers; a model without variances has the probabilities' scores alone."""
    trained, metrics = finished
    rows = [json.loads(line) for line in (trained / "predictions.jsonl").read_text().splitlines()]
    assert all(
        row["summed_variance"] > 0 and 0 <= row["mutual_information"] <= row["monte_carlo_entropy"] for row in rows
    )
    assert len({row["summed_variance"] for row in rows}) > 1
    of_test = {name: value for name, value in metrics.items() if name.startswith("test_error_auroc_")}
    assert of_test == {f"test_{n}": v for n, v in error_aurocs([r for r in rows if r["split"] == "test"]).items()}
    assert len(of_test) == 5 and all(0 <= value <= 1 for value in of_test.values())
    flags = ["--preset", "no_variational", "--do_train", "false", "--output_dir", str(tmp_path / "plain")]
    plain = run_mmre.main([config, *flags])
    predictions = (tmp_path / "plain" / "predictions.jsonl").read_text()
    assert not any(name in predictions or f"test_error_auroc_{name}" in plain for name in UNCERTAINTIES)


def test_a_model_that_is_evaluated_in_half_precision_has_its_uncertainties(config, tmp_path):
    metrics = run_mmre.main([config, "--do_train", "false", "--bf16_full_eval", "true", "--output_dir", str(tmp_path)])
    assert all(f"test_error_auroc_{name}" in metrics for name in UNCERTAINTIES)


def test_a_baseline_is_evaluated_too(config, tmp_path):
    flags = ["--model", "mtb", "--do_train", "false"]
    trained = run_mmre.main([config, "--output_dir", str(tmp_path / "mtb"), *flags])
    evaluated = evaluate.main([str(tmp_path / "mtb"), config, "--output_dir", str(tmp_path / "again")])
    assert evaluated["test_loss"] == pytest.approx(trained["test_loss"])


@pytest.mark.parametrize(
    "flags", [["--preset", "gat"], ["--hypergraph_scope=post"], ["--model", "mtb"], ["--max_length", "9"]]
)
def test_another_model_than_the_trained_one_is_refused(flags, config, finished, tmp_path):
    name, value = " ".join(flags).replace("=", " ").split()
    with pytest.raises(ValueError, match=f"{name}: .*{value}"):
        evaluate.main([str(finished[0]), config, *flags, "--output_dir", str(tmp_path / "again")])
    assert not (tmp_path / "again" / "metrics.json").exists()


def test_flags_of_the_trained_model_may_be_said_again(config, finished, tmp_path):
    trained, metrics = finished
    flags = ["--preset", "full", "--entity_representation", "packed", "--hypergraph_scope", "pair"]
    again = evaluate.main([str(trained), config, *flags, "--output_dir", str(tmp_path / "again")])
    assert again["test_f1"] == pytest.approx(metrics["test_f1"])


def test_what_cannot_be_evaluated_is_an_error(config, finished, posts, tmp_path):
    trained, _ = finished
    before = (trained / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"--output_dir {trained}.*vmhan evaluate {trained}"):
        run_mmre.main([config, "--output_dir", str(trained), "--do_train", "false"])
    with pytest.raises(ValueError, match=f"--output_dir.*{trained}"):
        evaluate.main([str(trained), config, "--output_dir", str(trained)])
    assert (trained / "model.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match=str(tmp_path)):
        evaluate.main([str(tmp_path), config])
    names = posts["test"].features["pairs"].feature["relation"].names
    features = posts["test"].features.copy()
    features["pairs"].feature["relation"] = type(features["pairs"].feature["relation"])(names=names[::-1])
    posts["test"].cast(features).to_parquet(tmp_path / "posts" / "test.parquet")
    flags = ["--dataset", str(tmp_path / "posts"), "--output_dir", str(tmp_path / "again")]
    with pytest.raises(ValueError, match=f"{trained} .*{names[0]}.*{names[-1]}"):
        evaluate.main([str(trained), config, *flags])


@pytest.fixture
def loading(config, posts, tmp_path):
    """`load(*flags, without=columns, reads=...)`: the posts without these columns, saved and loaded again."""
    entries = yaml.safe_load(Path(config).read_text())
    del entries["visual"]
    config = str(tmp_path / "tiny.yaml")
    Path(config).write_text(yaml.safe_dump(entries))

    def load(*flags, without=(), reads="features"):
        for split, rows in posts.items():
            rows.remove_columns(list(without)).to_parquet(tmp_path / "posts" / f"{split}.parquet")
        arguments = [config, "--output_dir", str(tmp_path), "--dataset", str(tmp_path / "posts"), *flags]
        _, data_args, run_args = parse_arguments(arguments)
        return load_posts(data_args, run_args, reads), data_args.visual

    return load


@pytest.mark.parametrize("without", [(), FEATURES], ids=["features", "pictures"])
@pytest.mark.parametrize("reads", ["features", "pixels", "text"])
@pytest.mark.parametrize("visual", [None, "none", "features", "pixels"])
def test_what_the_model_sees_of_the_pictures(loading, caplog, visual, reads, without):
    """Decided by the flag, the model and what the data have; said in one line of the log."""
    flags = ["--features=", *(["--visual", visual] if visual else [])]
    if reads == "features" and without and visual in ("features", "pixels"):
        with pytest.raises(ValueError, match=f"--visual {visual} .*--dataset .* --features"):
            loading(*flags, without=without, reads=reads)
        return
    with caplog.at_level("INFO"):
        posts, decided = loading(*flags, without=without, reads=reads)
    columns, sees = set(posts["train"].column_names), visual != "none"
    assert ("image_features" in columns) is (sees and not without and reads != "pixels")
    assert ("image" in columns) is (sees and (reads == "pixels" or (reads == "features" and not without)))
    assert ("caption" in columns) is sees
    left_out = {"pixels": "pixels", "features": None if without else "features", "text": None}[reads]
    assert decided == ("pixels" if reads == "pixels" and sees else visual or left_out)
    assert caplog.text.count("the model sees of the pictures") == 1


def test_pictures_are_not_opened_by_the_data_set_which_takes_every_format_of_pillow(loading):
    posts, _ = loading("--visual", "pixels", without=FEATURES, reads="pixels")
    for rows in posts.values():
        assert not rows.features["image"].decode and set(rows[0]["image"]) == {"bytes", "path"}
        assert load_image(rows[0]["image"]).mode == "RGB"


def test_features_that_ready_data_do_not_have_are_an_error(loading):
    with pytest.raises(ValueError, match="--features random:0 .*--dataset .*image_features"):
        loading(without=FEATURES)
    loading(without=FEATURES, reads="text")  # a model that reads text alone does not miss them


def test_without_a_validation_split_the_last_epoch_counts(config, posts, tmp_path, capsys):
    for split in ("train", "test"):
        posts[split].to_parquet(tmp_path / "posts" / f"{split}.parquet")
    flags = ["--dataset", str(tmp_path / "posts"), "--output_dir", str(tmp_path / "out")]
    metrics = run_mmre.main([config, *flags, "--early_stopping_patience", "2", "--num_train_epochs", "1"])
    assert "there is no validation split" in capsys.readouterr().err
    assert metrics["epoch"] == 1 and "test_f1" in metrics and "validation_f1" not in metrics


@pytest.mark.parametrize("column", ["id", "tokens"])
def test_a_missing_column_is_an_error_before_training(loading, column):
    with pytest.raises(ValueError, match=rf"split \w+: .*\['{column}'\]"):
        loading(without=[column])


def test_without_train_split_there_is_nothing_to_train_on(loading, posts):
    del posts["train"], posts["validation"]
    with pytest.raises(ValueError, match=r"\['test'\].*--do_train false"):
        loading()


def test_flags_of_builders_are_said_not_to_be_used(loading, caplog):
    loading("--captions", "llava_next")
    assert "--captions, --num_test, --num_train" in caplog.text


def test_an_example_without_a_stored_split_is_a_warning(config, finished, posts, caplog, monkeypatch):
    trained, _ = finished
    _, _, run_args = parse_arguments([config, "--output_dir", str(trained), "--show_example", "true"])
    cards = []
    monkeypatch.setattr("vmhan.training.results.write_model_card", lambda *a, **k: cards.append(a))
    complete(run_args, {}, {"train": posts["train"].to_iterable_dataset()}, is_repository=True)
    assert "no example is shown: there is no split that is stored" in caplog.text and len(cards) == 1


def test_several_gpus_without_a_launcher_are_not_cut_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu") or 2))
    arguments = RunArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == 4
    assert "one of 2 GPUs is used" in caplog.text


def test_an_evaluation_without_finite_scores_names_the_post():
    logits = [np.zeros((2, 3)), np.array([[0.0, np.inf, 0.0], [-100.0] * 3])]
    pair = {"head": [0, 1], "tail": [1, 2]}
    rows = datasets.Dataset.from_list([{"id": i, "tokens": ["x", "y"], "pairs": [pair]} for i in "ab"])
    found = SimpleNamespace(predictions=logits, label_ids=[[0, 1], [2, -100]])
    config = VMHANConfig(id2label={0: "None", 1: "peer", 2: "part"})
    with pytest.raises(ValueError, match="test, post 'b': the scores are not finite"):
        prediction_rows(found, rows, "test", config)
    found = SimpleNamespace(predictions=logits[:1], label_ids=[[0, 1]])
    assert len(prediction_rows(found, rows.take(1), "test", config)) == 1
