"""Grid search on the validation split: real trials, going on after a kill, and what it refuses."""

import json
import sys

import pytest
import yaml
from datasets import DatasetDict
from optuna.trial import FixedTrial
from own_posts import write_posts
from transformers import SchedulerType
from transformers.trainer_utils import HPSearchBackend

from vmhan.training import own_data
from vmhan.training import search as search_module
from vmhan.training.arguments import parse_arguments
from vmhan.training.loop import averaging
from vmhan.training.search import main, read_space


SPACE = {"learning_rate": [0.001, 0.002], "classifier_dropout": [0.0, 0.5], "num_text_phrases": [0, 1]}


class OutOfBounds:
    """A split that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError("the test split was touched")


@pytest.fixture
def flags(workplace, tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    flags = [str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path / "out"), "--visual", "none"]
    return [*flags, "--num_train_epochs", "1", "--space", str(tmp_path / "space.yaml")]


@pytest.fixture
def posts_are(monkeypatch):
    """`posts_are(change)`: what the search loads is `change(posts)`."""
    load = search_module.load_posts
    return lambda change: monkeypatch.setattr(search_module, "load_posts", lambda *a: DatasetDict(change(load(*a))))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": [1]}, "'learning_rat'.*'learning_rate'"),
        ({"num_train": [1]}, "'num_train'"),  # of the data
        ({"learning_rate": 0.1}, "learning_rate .* 0.1"),
        ({"learning_rate": [0.1, 0.1]}, r"learning_rate .*\[0.1, 0.1\]"),
        ({"learning_rate": [0.0001, "1e-4"]}, r"learning_rate .*\[0.0001, '1e-4'\]"),
        ({"num_layers": [1, 2.5]}, "space.yaml: .*num_layers.*'2.5'"),
    ],
)
def test_a_wrong_space_is_an_error(tmp_path, space, message):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    with pytest.raises(ValueError, match=message):
        read_space(tmp_path / "space.yaml")
    assert read_space("search_space")["learning_rate"]  # the shipped one


def test_trials_go_on_after_a_kill_and_the_test_split_is_not_touched(flags, tmp_path, posts_are, monkeypatch):
    posts_are(lambda posts: {**posts, "test": OutOfBounds()})
    first = main([*flags, "--n_trials", "1"])["trials"]
    objective = search_module._Trials.best_so_far

    def killed(*arguments):
        raise SystemExit

    monkeypatch.setattr(search_module._Trials, "best_so_far", killed)
    with pytest.raises(SystemExit):
        main([*flags, "--n_trials", "2"])
    monkeypatch.setattr(search_module._Trials, "best_so_far", objective)
    found = main([*flags, "--n_trials", "2"])
    done = [trial for trial in found["trials"] if trial["state"] == "complete"]
    assert found["trials"][0] == first[0] and len(done) == 2
    points = [trial["fields"] for trial in done]
    assert len(set(map(str, points))) == 2 and found["trials"][1]["fields"] in points  # the killed one's
    assert found["best"]["validation_f1"] == max(trial["validation_f1"] for trial in done)
    assert json.loads((tmp_path / "out" / "search.json").read_text()) == found
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    model_args, data_args, run_args = parse_arguments([str(tmp_path / "out/best.yaml"), "--output_dir", "x"])
    best = found["best"]["fields"]
    assert run_args.learning_rate == best["learning_rate"] and run_args.num_train_epochs == 1
    assert model_args.classifier_dropout == best["classifier_dropout"] and data_args.visual == "none"


def test_a_trial_that_diverges_is_pruned_and_the_others_go_on(flags, tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"head_learning_rate": [0.001, 1e30]}))
    found = main([*flags, "--n_trials", "2"])
    states = {trial["fields"]["head_learning_rate"]: trial["state"] for trial in found["trials"]}
    assert states == {0.001: "complete", 1e30: "pruned"} and found["best"]["fields"]["head_learning_rate"] == 0.001
    assert main([*flags, "--n_trials", "2"]) == found  # its point is not tried again
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"head_learning_rate": [1e30]}))
    with pytest.raises(ValueError, match="--space: .*diverged"):
        main([flags[0], "--output_dir", str(tmp_path / "other"), *flags[3:]])


@pytest.mark.parametrize("field", ["num_text_phrases", "max_length"])
def test_another_space_is_searched_anew(flags, tmp_path, field):
    (tmp_path / "space.yaml").write_text("num_text_phrases: [0]")
    first = main(flags)["trials"]
    (tmp_path / "space.yaml").write_text(f"{field}: [99]")
    found = main(flags)
    assert [trial["fields"] for trial in found["trials"]] == [{field: 99}] == [found["best"]["fields"]]
    (tmp_path / "space.yaml").write_text("num_text_phrases: [0]")
    assert main(flags)["trials"] == first


def test_a_trial_has_the_values_that_a_config_of_the_same_words_gives(flags, tmp_path):
    words = {"warmup_steps": "[0.06, 0.1]", "head_learning_rate": "[1e-4, null]", "kl_loss_weight": "[1e-3, 0]"}
    words |= {"lr_scheduler_type": "[cosine, linear]", "fit_none_bias": "[true, false]"}
    (tmp_path / "space.yaml").write_text("".join(f"{name}: {values}\n" for name, values in words.items()))
    space = read_space(tmp_path / "space.yaml")
    trials = search_module._Trials(space, *parse_arguments(flags[:-2]))
    trials.trainer.hp_search_backend, trials.trainer.hp_space = HPSearchBackend.OPTUNA, trials.training_fields
    tried = []
    for point in zip(*space.values(), strict=True):
        trial = FixedTrial(dict(zip(space, point, strict=True)))
        trials.trainer._hp_search_setup(trial)
        values = trials.model(trial).config.to_dict() | vars(trials.trainer.args)
        tried.append([values[name] for name in space])
    assert tried == [[0.06, 1e-4, 1e-3, SchedulerType.COSINE, True], [0.1, None, 0, SchedulerType.LINEAR, False]]
    assert isinstance(trials.trainer.args.lr_scheduler_type, SchedulerType)


@pytest.fixture
def own_flags(workplace, flags, tmp_path):
    """Of a search on 24 posts of one's own, whose images are in pictures/."""
    write_posts(tmp_path, 24, size=16)
    own = ["--text_encoder", str(workplace / "encoder"), "--num_train_epochs", "1", "--use_cpu", "true"]
    own += ["--data", str(tmp_path / "my_posts.jsonl"), "--images", str(tmp_path / "pictures")]
    return [*own, "--cache_dir", str(tmp_path / "cache"), *flags[1:3], *flags[-2:]]


CLIP = "transformers:openai/clip-vit-base-patch32"  # of own_data_small


@pytest.mark.parametrize(
    ("config", "features", "has_images", "can_be_had", "used", "visual"),
    [
        ([], [], True, True, CLIP, "features"),
        (["own_data_small"], [], True, True, CLIP, "features"),
        ([], [], True, False, None, None),
        ([], [], False, True, None, None),
        (["own_data_small"], [], False, True, None, None),
        (["own_data_small"], ["--features", "vgg16:random:0"], True, False, "vgg16:random:0", "features"),
        (["own_data_small"], ["--features", "vgg16:random:0"], False, True, "vgg16:random:0", None),  # an error later
    ],
)
def test_own_posts_are_read_as_by_train(
    own_flags, tmp_path, monkeypatch, config, features, has_images, can_be_had, used, visual
):
    if not has_images:
        without_images(tmp_path / "my_posts.jsonl")
    monkeypatch.setattr(own_data, "_why_not_had", lambda name: None if can_be_had else "it cannot be had")
    monkeypatch.setattr(search_module, "_search", lambda *arguments: arguments)
    entries, _, _, model_args, data_args, run_args = main([*config, *own_flags, *features])
    assert (data_args.features, data_args.visual, entries.get("features")) == (used, visual, used)
    assert model_args.mentions and run_args.learning_rate == 0.0002 == float(entries["learning_rate"])


def test_own_posts_of_text_alone_are_searched_and_best_yaml_trains_on_them(own_flags, tmp_path):
    without_images(tmp_path / "my_posts.jsonl")
    (tmp_path / "space.yaml").write_text("classifier_dropout: [0.5]")
    assert main(["own_data_small", *own_flags])["best"]["fields"] == {"classifier_dropout": 0.5}
    best = [str(tmp_path / "out" / "best.yaml"), "--output_dir", "x"]
    model_args, data_args, _ = parse_arguments(best)
    assert model_args.mentions and model_args.classifier_dropout == 0.5 and data_args.features is None


def without_images(file):
    posts = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**post, "image": None}) + "\n" for post in posts))


def test_trials_of_other_settings_are_not_mixed(flags):
    settings = search_module._entries([*flags, "--hub_token", "hf_secret", "--learning_rate", "1e-3"])
    assert settings["visual"] == "none" and not {"output_dir", "space", "hub_token"} & set(settings)
    same, others = {"learning_rate": 0.001, "cache_dir": "x"}, [{"num_train_epochs": "5"}, {"warmup_steps": "7"}]
    names = [search_module._study_name(settings | changed, SPACE) for changed in ({}, same, *others)]
    assert names[0] == names[1] and len(set(names)) == 3


def test_a_trial_has_its_own_fields(flags):
    """On the model, on the processor that goes with it, and on the training."""
    trials = search_module._Trials(SPACE, *parse_arguments(flags[:-2]))
    point = {"learning_rate": 0.002, "classifier_dropout": 0.5, "num_text_phrases": 1}

    class Trial:
        def suggest_categorical(self, name, values):
            return point[name]

    model = trials.model(Trial())
    assert (model.config.classifier_dropout, model.config.num_text_phrases) == (0.5, 1)
    assert trials.trainer.data_collator.processor.num_text_phrases == 1
    assert trials.training_fields(Trial()) == {"learning_rate": 0.002}


def test_what_it_cannot_do_is_an_error(flags, monkeypatch, posts_are):
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"pip install 'vmhan\[search\]'"):
        patch.setitem(sys.modules, "optuna", None)
        main(flags)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="one process, received 2"):
        patch.setattr("vmhan.training.arguments.RunArguments.world_size", 2)
        main(flags)
    posts_are(lambda posts: {"train": posts["train"]})
    with pytest.raises(ValueError, match=r"\['train'\]"):
        main(flags)


def test_each_trial_averages_its_weights_as_its_point_says(flags, tmp_path, monkeypatch):
    decays, make = [], averaging.get_ema_multi_avg_fn
    monkeypatch.setattr(averaging, "get_ema_multi_avg_fn", lambda decay: decays.append(decay) or make(decay))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"weight_averaging": [0.05, 0.1]}))
    found = main([*flags, "--n_trials", "2"])
    steps = len(decays) // 2
    assert steps and decays == [trial["fields"]["weight_averaging"] for trial in found["trials"] for _ in range(steps)]
