"""Training that diverges leaves no model, a published run ends last, and no file holds a token."""

import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from kills import Killed
from safetensors.torch import load_file, save_file

import run_mmre
from datasets_scripts.commands import run_command
from model_cards.checking import check_card
from vmhan.evaluation.sweep.runs import FAILED, do_run, needs_work
from vmhan.training import evaluate
from vmhan.training.arguments import RunArguments
from vmhan.training.checkpoints import newest_whole
from vmhan.training.loop.trainer import RelationTrainer
from vmhan.training.results import write_results


@pytest.mark.parametrize(
    "rates",
    [
        ["--learning_rate", "1e6", "--head_learning_rate", "1e6"],
        ["--head_learning_rate", "1e30", "--logging_nan_inf_filter", "true"],
        ["--learning_rate", "1e6", "--logging_strategy", "no"],
        ["--learning_rate", "1e6", "--logging_strategy", "no", *("--eval_strategy", "no", "--save_strategy", "no")],
        ["--learning_rate", "1e6", "--max_grad_norm", "0", "--logging_strategy", "epoch"],
        ["--learning_rate", "inf"],
        ["--head_learning_rate", "nan", "--logging_strategy", "no"],
    ],
    ids=" ".join,
)
def test_training_that_diverges_is_an_error_and_leaves_no_model(tiny_flags, tmp_path, capsys, rates):
    folder = tmp_path / "run"
    if "no" in rates[-1:]:
        rates = [*rates, "--load_best_model_at_end", "false"]
    code = run_command("vmhan train", lambda: run_mmre.main([*tiny_flags, "--output_dir", str(folder), *rates]))
    error = capsys.readouterr().err.splitlines()[-1]
    rate = f"{rates[0]} {float(rates[1]):g}"
    assert code == 2 and "training diverged" in error and "step " in error and rate in error
    names = {path.name for path in folder.rglob("*")} if folder.exists() else set()
    assert not names & {"config.json", "model.safetensors", "metrics.json", "run.json"}


def test_a_diverged_run_of_a_sweep_is_recorded_as_failed_and_an_earlier_checkpoint_stays(sweep_run, monkeypatch):
    step = RelationTrainer.training_step

    def broken(self, model, *args, **kwargs):
        if self.state.global_step == 4:
            model.classifier.bias.data.fill_(float("nan"))
        return step(self, model, *args, **kwargs)

    monkeypatch.setattr(RelationTrainer, "training_step", broken)
    run = sweep_run("results", learning_rate=0.002, num_train_epochs=2)
    assert do_run(run, keep_weights=False) == FAILED and needs_work(run)
    said = (run.folder / "failed.txt").read_text().splitlines()[-1]
    assert "training diverged: at step 5" in said and "--learning_rate 0.002" in said
    assert newest_whole(run.folder).name == "checkpoint-3" and not (run.folder / "metrics.json").exists()
    assert do_run(run, keep_weights=False) == FAILED  # it goes on from there, to the same end


def test_scores_that_are_not_finite_name_the_post(tiny_flags, whole, tmp_path, monkeypatch, capsys):
    """Of finite weights: a number of posts, not a NaN in metrics.json."""
    step = RelationTrainer.prediction_step

    def broken(self, *args, **kwargs):
        loss, logits, labels = step(self, *args, **kwargs)
        logits[0, 0, 0] = float("nan")
        return loss, logits, labels

    monkeypatch.setattr(RelationTrainer, "prediction_step", broken)
    data = [str(whole[0]), tiny_flags[0], "--visual", "none", "--output_dir", str(tmp_path / "again")]
    with pytest.raises(ValueError, match="3 of 5 posts .*first is post 0 "):
        evaluate.main(data)
    assert not (tmp_path / "again" / "metrics.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_that_are_not_finite_are_not_written(whole, tmp_path, value):
    with pytest.raises(ValueError, match="test_f1"):
        write_results(tmp_path, {"test_f1": value, "epoch": 1.0}, {}, {}, None, {})
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("where", ["flag", "file"])
def test_a_token_is_in_no_file_of_a_run(tiny_flags, tmp_path, where):
    """Neither beside the model nor in a checkpoint, whose pickles hold the arguments."""
    folder, given = tmp_path / "run", ["--hub_token", "hf_secret"]
    if where == "file":
        entries = yaml.safe_load(Path(tiny_flags[0]).read_text()) | {"hub_token": "hf_secret"}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(entries))
        tiny_flags, given = [str(tmp_path / "tiny.yaml"), *tiny_flags[1:]], []
    run_mmre.main([*tiny_flags, *given, "--output_dir", str(folder), "--num_train_epochs", "1"])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if path.name == "training_args.bin"]
    for path in files:
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                parts += [opened.read(name) for name in opened.namelist()]
        assert not any(b"hf_secret" in part for part in parts), path


def test_a_model_of_diverged_weights_is_said_to_be_one(whole, tiny_flags, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(tmp_path / "run" / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, tmp_path / "run" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights of this model are not finite"):
        evaluate.main(
            [str(tmp_path / "run"), tiny_flags[0], "--visual", "none", "--output_dir", str(tmp_path / "again")]
        )
    assert not (tmp_path / "again" / "metrics.json").exists()


def test_a_run_killed_while_it_is_published_is_not_finished(tiny_flags, tmp_path, monkeypatch):
    """The card agrees with the files that are there, and run.json comes after the upload."""
    monkeypatch.setattr("vmhan.training.command.check_access", lambda token: None)
    seen = []

    def publish(folder, repo_id, *, run, token, **choice):
        seen.append((check_card(folder, run), token, (folder / "run.json").exists()))
        raise Killed

    monkeypatch.setattr("vmhan.training.results.publish_model", publish)
    command = [*tiny_flags, "--num_train_epochs", "1", "--push_to_hub", "true", "--hub_token", "hf_secret"]
    with pytest.raises(Killed):
        run_mmre.main([*command, "--output_dir", str(tmp_path / "run")])
    assert seen == [([], "hf_secret", False)] and not (tmp_path / "run" / "run.json").exists()


def test_no_step_of_training_waits_for_a_check(tiny_flags, tmp_path, monkeypatch):
    """The weights are looked at before each checkpoint and at the end, and no loss is in a step."""
    check, steps = RelationTrainer.check_weights, []
    monkeypatch.setattr(
        RelationTrainer, "check_weights", lambda self: steps.append(self.state.global_step) or check(self)
    )
    run_mmre.main([*tiny_flags, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"])
    assert steps == [3, 3] and RunArguments(output_dir="x", use_cpu=True).logging_nan_inf_filter is False
