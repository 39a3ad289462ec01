"""run_mmre.py on a finished run, on data that no builder made, and what it refuses before anything is computed."""

import json
from types import SimpleNamespace

import pytest
from datasets import DatasetDict
from transformers import TrainingArguments

import run_mmre
from vmhan import cli
from vmhan.training.arguments import RunArguments, parse_arguments
from vmhan.training.data import load_posts, without_images
from vmhan.training.models import build_model
from vmhan.training.results import complete


SCORES = ("validation_f1", "test_f1", "test_accuracy", "test_precision", "temperature")


@pytest.fixture
def config(workplace):  # noqa: F811
    return str(workplace / "tiny.yaml")


@pytest.fixture
def posts(config, tmp_path):
    _, data_args, run_args = parse_arguments([config, "--output_dir", str(tmp_path)])
    return load_posts(data_args, run_args)


def evaluate(config, trained, output, *flags):
    return run_mmre.main(
        [config, "--do_train", "false", "--trained_model", str(trained), "--output_dir", str(output), *flags]
    )


def test_a_finished_run_is_evaluated_into_another_folder(config, finished, tmp_path):  # noqa: F811
    trained, metrics = finished
    before = (trained / "metrics.json").read_bytes()
    evaluated = evaluate(config, trained, tmp_path / "again", "--entity_representation", "marker")  # its own is packed
    assert {name: evaluated[name] for name in SCORES} == {name: pytest.approx(metrics[name]) for name in SCORES}
    rows = [(folder / "predictions.jsonl").read_text().splitlines() for folder in (trained, tmp_path / "again")]
    assert [json.loads(row)["predicted"] for row in rows[0]] == [json.loads(row)["predicted"] for row in rows[1]]
    assert (trained / "metrics.json").read_bytes() == before
    run, made = (json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "again", trained))
    assert (run["model"], run["training"], run["base_model"]) == (made["model"], made["training"], made["base_model"])
    assert run["trained_model"] == "full" and "--trained_model full" in run["command"]
    assert not (tmp_path / "again" / "README.md").exists()


def test_an_evaluated_model_keeps_its_temperature(config, finished, posts, tmp_path):  # noqa: F811
    trained, metrics = finished
    posts["test"].to_parquet(tmp_path / "posts" / "test.parquet")
    evaluated = evaluate(config, trained, tmp_path / "again", "--dataset", str(tmp_path / "posts"))
    assert evaluated["temperature"] == metrics["temperature"] != 1 and "validation_f1" not in evaluated
    assert evaluated["test_ece"] == pytest.approx(metrics["test_ece"])


def test_a_baseline_is_evaluated_too_and_by_its_name_only(config, tmp_path):
    flags = ["--model", "mtb", "--eval_strategy", "no", "--load_best_model_at_end", "false", "--save_strategy", "no"]
    trained = run_mmre.main([config, "--output_dir", str(tmp_path / "mtb"), "--max_steps", "1", *flags])
    evaluated = evaluate(config, tmp_path / "mtb", tmp_path / "again", "--model", "mtb")
    assert evaluated["test_loss"] == pytest.approx(trained["test_loss"])
    with pytest.raises(ValueError, match="holds 'mtb', received --model vmhan: pass --model mtb"):
        evaluate(config, tmp_path / "mtb", tmp_path / "third")


def test_without_training_no_model_is_written_over(config, finished):  # noqa: F811
    trained, _ = finished
    before = (trained / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"pass --trained_model {trained} and another --output_dir"):
        run_mmre.main([config, "--output_dir", str(trained), "--do_train", "false"])
    with pytest.raises(ValueError, match="would write over the model"):
        evaluate(config, trained, trained)
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("flags", [["--do_train", "true"], ["--do_train", "false", "--push_to_hub", "true"]])
def test_a_trained_model_is_only_evaluated(config, flags):
    with pytest.raises(ValueError, match="expected --do_train false and no --push_to_hub"):
        parse_arguments([config, "--output_dir", "x", "--trained_model", "y", *flags])


def test_a_trained_model_of_other_relations_is_an_error(config, finished, posts):  # noqa: F811
    trained, _ = finished
    flags = ["--do_train", "false", "--trained_model", str(trained)]
    model_args, data_args, _ = parse_arguments([config, "--output_dir", "x", *flags])
    columns = posts["train"].features
    columns["pairs"].feature["relation"].names.reverse()
    with pytest.raises(ValueError, match="they must be the same, in the same order"):
        build_model(model_args, data_args, {"train": SimpleNamespace(features=columns)})


# ---------------------------------------------------------------- data that no builder made


@pytest.fixture
def loading(config, posts, tmp_path):
    """A function: posts without these columns, saved and loaded again with these flags."""

    def load(*flags, without=()):
        for split, rows in posts.items():
            rows.remove_columns(list(without)).to_parquet(tmp_path / "posts" / f"{split}.parquet")
        arguments = [config, "--output_dir", str(tmp_path), "--dataset", str(tmp_path / "posts"), *flags]
        model_args, data_args, run_args = parse_arguments(arguments)
        return model_args, data_args, load_posts(data_args, run_args)

    return load


FEATURES = ("image_features", "object_features")


def test_without_a_validation_split_the_last_epoch_counts(config, posts, tmp_path, capsys):
    for split in ("train", "test"):
        posts[split].to_parquet(tmp_path / "posts" / f"{split}.parquet")
    flags = [
        "--dataset",
        str(tmp_path / "posts"),
        "--early_stopping_patience",
        "2",
        "--resume_from_checkpoint",
        "false",
    ]
    metrics = run_mmre.main([config, "--output_dir", str(tmp_path / "out"), *flags])
    assert "there is no validation split: no epoch is selected, the last one is saved" in capsys.readouterr().err
    assert metrics["epoch"] == 2 and "test_f1" in metrics and "validation_f1" not in metrics


def test_pictures_that_nothing_reads_are_not_decoded(loading, caplog):
    _, data_args, posts = loading("--images", "true", "--features", "", without=FEATURES)
    assert "image" in posts["train"].features  # for baselines that read pixels
    assert "image" not in without_images(posts, data_args)["train"].features
    assert "the images are not read: --features" in caplog.text


def test_features_that_the_data_do_not_have_are_an_error(loading):
    with pytest.raises(
        ValueError, match="--features random:0 is for data that is built here, and .* has no image_fea"
    ):
        loading(without=FEATURES)
    _, _, posts = loading("--no_visual", "true", without=FEATURES)
    assert "image" not in posts["train"].features


def test_a_baseline_that_reads_no_features_does_not_miss_them(loading, config, tmp_path):
    loading("--no_visual", "true", without=FEATURES)
    flags = [
        "--dataset",
        str(tmp_path / "posts"),
        "--max_steps",
        "1",
        "--eval_strategy",
        "no",
        "--save_strategy",
        "no",
    ]
    flags += ["--load_best_model_at_end", "false", "--output_dir", str(tmp_path / "out")]
    assert "test_f1" in run_mmre.main([config, *flags, "--model", "mtb"])
    with pytest.raises(ValueError, match="has no image_features"):
        run_mmre.main([config, *flags, "--model", "visualbert"])


def test_a_vision_encoder_of_no_features_is_an_error(config, posts):
    model_args, data_args, _ = parse_arguments([config, "--output_dir", "x", "--vision_in_model", "true"])
    with pytest.raises(
        ValueError, match="--vision_in_model saves the encoder that made .* received posts without any"
    ):
        build_model(model_args, data_args, DatasetDict({s: p.remove_columns(FEATURES) for s, p in posts.items()}))


@pytest.mark.parametrize("column", ["id", "tokens"])
def test_a_missing_column_is_an_error_before_training(loading, column):
    with pytest.raises(ValueError, match=rf"split \w+: expected the columns .* received none called \['{column}'\]"):
        loading(without=[column])


def test_flags_of_builders_are_said_not_to_be_used(loading, caplog):
    loading("--captions", "llava_next", "--images", "false")
    assert "not used with a data set that is ready: --captions, --num_test, --num_train" in caplog.text
    assert "--images" not in caplog.text


def test_an_example_without_test_split_is_a_warning(config, finished, posts, caplog, monkeypatch):  # noqa: F811
    trained, _ = finished
    _, _, run_args = parse_arguments([config, "--output_dir", str(trained), "--show_example", "true"])
    published = []
    monkeypatch.setattr("vmhan.training.results.publish", lambda *arguments: published.append(arguments))
    posts.pop("test")
    complete(run_args, {}, posts, is_repository=True)
    assert "no example is shown: there is no test split" in caplog.text and len(published) == 1


# ---------------------------------------------------------------- what does not go with this model


def test_label_smoothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="--label_smoothing_factor must be 0, received 0.1"):
        RunArguments(output_dir=str(tmp_path), use_cpu=True, label_smoothing_factor=0.1)


def test_several_gpus_without_a_launcher_are_not_cut_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu") or 2))
    arguments = RunArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == 4
    assert "one of 2 GPUs is used: start with `accelerate launch`" in caplog.text


def test_the_installed_command_ends_well(monkeypatch):
    monkeypatch.setattr("vmhan.training.command.main", lambda argv: {"test_f1": 0.5})
    assert cli.main(["train", "demo"]) == 0
