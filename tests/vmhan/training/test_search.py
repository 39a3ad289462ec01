"""Grid search on the validation split: the points, two real trials, going on, and what it refuses."""

import json
import sys

import pytest
import yaml
from datasets import DatasetDict

import run_mmre
from vmhan.training import search as search_module
from vmhan.training.arguments import parse_arguments
from vmhan.training.search import draw_points, read_space


SPACE = {"learning_rate": [0.001, 0.002], "classifier_dropout": [0.0, 0.5], "num_text_phrases": [0, 1]}


class OutOfBounds:
    """A split that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError("the test split was touched")


@pytest.fixture
def flags(workplace, tmp_path):  # noqa: F811
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    flags = [str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path / "out"), "--no_visual", "true"]
    return [*flags, "--num_train_epochs", "1", "--hyperparameter_search", str(tmp_path / "space.yaml")]


def test_points_are_different_seeded_and_begin_alike():
    points = draw_points(SPACE, 5, seed=1)
    assert len({json.dumps(point) for point in points}) == 5 and points == draw_points(SPACE, 5, seed=1)
    assert points[:3] == draw_points(SPACE, 3, seed=1) and points != draw_points(SPACE, 5, seed=2)
    assert len(draw_points(SPACE, 100, seed=1)) == 8  # the whole grid
    assert all(point[name] in values for point in points for name, values in SPACE.items())


def test_the_shipped_space_is_one():
    assert read_space("configs/search_space.yaml")["learning_rate"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": [1]}, "expected fields of the model or of the training, received 'learning_rat'"),
        ({"num_train": [1]}, "received 'num_train'"),  # of the data
        ({"learning_rate": 0.1}, "expected learning_rate to have a list of different values to try, received 0.1"),
        ({"learning_rate": [0.1, 0.1]}, "list of different values"),
    ],
)
def test_a_wrong_space_is_an_error(tmp_path, space, message):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    with pytest.raises(ValueError, match=message):
        read_space(str(tmp_path / "space.yaml"))


def test_trials_go_on_and_the_test_split_is_not_touched(flags, tmp_path, monkeypatch):
    load = search_module.load_posts
    monkeypatch.setattr(
        search_module, "load_posts", lambda *arguments: DatasetDict({**load(*arguments), "test": OutOfBounds()})
    )
    first = run_mmre.main([*flags, "--n_trials", "1"])["trials"]
    found = run_mmre.main([*flags, "--n_trials", "2"])
    assert found["trials"][0] == first[0] and [trial["state"] for trial in found["trials"]] == ["complete"] * 2
    points = draw_points(read_space(tmp_path / "space.yaml"), 2, seed=42)  # TrainingArguments' seed
    assert [{name: trial[name] for name in SPACE} for trial in found["trials"]] == points
    assert found["best"]["validation_f1"] == max(trial["validation_f1"] for trial in found["trials"])
    assert json.loads((tmp_path / "out" / "search.json").read_text()) == found
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    model_args, data_args, run_args = parse_arguments([str(tmp_path / "out/best.yaml"), "--output_dir", "x"])
    best = found["best"]["fields"]
    assert (run_args.learning_rate, model_args.classifier_dropout) == (
        best["learning_rate"],
        best["classifier_dropout"],
    )
    assert data_args.no_visual and run_args.num_train_epochs == 1 and run_args.hyperparameter_search is None


def test_trials_of_other_settings_are_not_mixed(flags, tmp_path):
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study()
    settings = search_module._entries([*flags, "--hub_token", "hf_secret"])
    assert "hf_secret" not in str(settings)
    assert settings["no_visual"] == "true" and "output_dir" not in settings and "n_trials" not in settings
    search_module._check_settings(study, {**settings, "num_train_epochs": "9"}, tmp_path)
    search_module._check_settings(study, settings, tmp_path)  # nothing is finished: a flag may be put right
    study.add_trial(optuna.trial.create_trial(value=0.5))
    search_module._check_settings(study, {**settings, "num_train_epochs": "1.0", "cache_dir": "x"}, tmp_path)
    with pytest.raises(ValueError, match=r"trials of other settings \(num_train_epochs '1' -> '5'\)"):
        search_module._check_settings(study, {**settings, "num_train_epochs": "5"}, tmp_path)
    with pytest.raises(ValueError, match=r"\(seed None -> '7'\)"):
        search_module._check_settings(study, {**settings, "seed": "7"}, tmp_path)
    old = optuna.create_study()
    old.add_trial(optuna.trial.create_trial(value=0.5))
    with pytest.raises(ValueError, match="does not say of what settings its trials are"):
        search_module._check_settings(old, settings, tmp_path)


def test_a_trial_has_its_own_fields(flags):
    """On the model, on the processor that goes with it, and on the training."""
    model_args, data_args, run_args = parse_arguments(flags)
    trials = search_module._Trials(SPACE, model_args, data_args, run_args)
    point = {"learning_rate": 0.002, "classifier_dropout": 0.5, "num_text_phrases": 1}

    class Trial:
        def suggest_categorical(self, name, values):
            return point[name]

    model = trials.model(Trial())
    assert (model.config.classifier_dropout, model.config.num_text_phrases) == (0.5, 1)
    assert trials.trainer.data_collator.processor.num_text_phrases == 1
    assert trials.training_fields(Trial()) == {"learning_rate": 0.002}


def test_without_optuna_it_says_what_to_install(flags, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"needs Optuna: pip install 'vmhan\[search\]'"):
        run_mmre.main(flags)


def test_without_validation_split_it_is_an_error(flags, monkeypatch):
    load = search_module.load_posts
    monkeypatch.setattr(
        search_module, "load_posts", lambda *arguments: DatasetDict({"train": load(*arguments)["train"]})
    )
    with pytest.raises(ValueError, match=r"needs a validation split, received only \['train'\]"):
        run_mmre.main(flags)


def test_several_processes_are_an_error(flags, monkeypatch):
    model_args, data_args, run_args = parse_arguments(flags)
    monkeypatch.setattr(type(run_args), "world_size", 2)
    with pytest.raises(ValueError, match="runs in one process, received 2"):
        search_module.search(flags, model_args, data_args, run_args)
