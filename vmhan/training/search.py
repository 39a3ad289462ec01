"""Grid search on the validation split: `run_mmre.py CONFIG --hyperparameter_search SPACE.yaml --n_trials 5`.

The space is a YAML file of fields, each with the list of values to try; a trial is one point of their grid. The points
are drawn with the run's seed, without repetition, before the first trial, and trials are kept in search.db: a killed
search goes on with the point it was at. The test split is never looked at. Trainer.hyperparameter_search (Optuna,
`pip install 'vmhan[search]'`) runs the trials.
"""

import json
import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from model_cards.run_metadata import write_atomically
from vmhan.training.arguments import DataArguments, ModelArguments, RunArguments
from vmhan.training.data import load_posts, make_collator, with_lengths
from vmhan.training.flags import read_entries, same_value, to_entries
from vmhan.training.models import build_model
from vmhan.training.trainer import RelationTrainer, score_evaluation


__all__ = ["draw_points", "read_space", "search"]

logger = logging.getLogger(__name__)

METRIC = "eval_f1"
SETTINGS = "settings"  # of a study's trials, noted in it
UNIMPORTANT = ("cache_dir", "disable_tqdm")  # a trial's score does not depend on these
NOT_TRIED = ("output_dir", "hyperparameter_search", "n_trials", "resume_from_checkpoint")


def search(
    argv: Sequence[str], model_args: ModelArguments, data_args: DataArguments, run_args: RunArguments
) -> dict[str, Any]:
    """Try the points, write search.json (all trials) and best.yaml (a config of run_mmre.py); returns the former.

    A trial's value is its best validation F1 over the evaluations of its training, in [0, 1].

    Raises:
        ValueError: no Optuna; a space that does not fit; several processes; no validation split; trials of other
            settings in --output_dir.
    """
    optuna = _optuna()
    if run_args.world_size > 1:
        raise ValueError(f"--hyperparameter_search runs in one process, received {run_args.world_size}.")
    space = read_space(run_args.hyperparameter_search)
    output_dir = Path(run_args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    run_args.save_strategy, run_args.load_best_model_at_end = SaveStrategy.NO, False  # a trial leaves its score only
    if run_args.eval_strategy == IntervalStrategy.NO:
        run_args.eval_strategy = IntervalStrategy.EPOCH
    trials = _Trials(space, model_args, data_args, run_args)
    place = {"storage": f"sqlite:///{output_dir / 'search.db'}", "study_name": "search", "load_if_exists": True}
    study = optuna.create_study(direction="maximize", **place)
    _check_settings(study, _entries(argv), output_dir)
    missing = _enqueue(study, draw_points(space, run_args.n_trials, run_args.seed), optuna)
    if missing:
        trials.trainer.hyperparameter_search(
            hp_space=trials.training_fields,
            compute_objective=trials.best_so_far,
            n_trials=missing,
            direction="maximize",
            backend="optuna",
            pruner=optuna.pruners.NopPruner(),  # a trial cut short would have no value
            **place,
        )
    return _write(study, argv, run_args, output_dir)


class _Trials:
    """The Trainer whose model is built anew for each trial, and what it asks for on the way."""

    def __init__(self, space: dict[str, list], model_args, data_args, run_args):
        self._space, self._model_args, self._data_args = space, model_args, data_args
        posts = load_posts(data_args, run_args)
        posts.pop("test", None)
        if "validation" not in posts:
            raise ValueError(f"--hyperparameter_search needs a validation split, received only {list(posts)}.")
        self._posts, self._best = posts, -math.inf
        model, processor = build_model(model_args, data_args, posts)
        posts = with_lengths(posts, processor, run_args)
        labels, none_label = model.config.labels, model.config.none_label
        self.trainer = None
        self.trainer = RelationTrainer(
            model_init=self.model,
            args=run_args,
            train_dataset=posts["train"],
            eval_dataset=posts["validation"],
            data_collator=make_collator(processor, model.config.label2id, data_args.visual_share),
            compute_metrics=lambda evaluation: score_evaluation(evaluation, labels, none_label),
        )

    def model(self, trial):
        """A fresh model of the trial's fields; the collator gets the processor that belongs to it."""
        self._best = -math.inf
        changed = (
            {} if trial is None else {k: v for k, v in self._point(trial).items() if hasattr(self._model_args, k)}
        )
        model, processor = build_model(replace(self._model_args, **changed), self._data_args, self._posts)
        if self.trainer is not None:
            share = self._data_args.visual_share
            self.trainer.data_collator = make_collator(processor, model.config.label2id, share)
        return model

    def training_fields(self, trial) -> dict[str, Any]:
        return {name: value for name, value in self._point(trial).items() if not hasattr(self._model_args, name)}

    def best_so_far(self, metrics: Mapping[str, float]) -> float:
        self._best = max(self._best, metrics[METRIC])
        return self._best

    def _point(self, trial) -> dict[str, Any]:
        return {name: trial.suggest_categorical(name, values) for name, values in self._space.items()}


def read_space(path: str) -> dict[str, list]:
    """Field -> values to try.

    Raises:
        ValueError: a name is no field of the model or of the training, or has no list of single values.
    """
    space = read_entries(path)
    known = {f.name for group in (ModelArguments, RunArguments) for f in fields(group)} - {*NOT_TRIED, "seed"}
    for name, values in space.items():
        if name not in known:
            raise ValueError(f"{path}: expected fields of the model or of the training, received {name!r}.")
        single = isinstance(values, list) and all(isinstance(v, (str, int, float, bool)) for v in values)
        if not single or not values or len(set(map(str, values))) != len(values):
            raise ValueError(
                f"{path}: expected {name} to have a list of different values to try, received {values!r}."
            )
    return space


def draw_points(space: Mapping[str, Sequence], n_trials: int, seed: int) -> list[dict[str, Any]]:
    """`n_trials` points of the grid, or all of a smaller one; more trials of one seed begin with those of fewer.

    Example:
        >>> len(draw_points({"learning_rate": [0.1, 0.2], "num_layers": [1, 2]}, 9, seed=0))
        4
    """
    size, generator = math.prod(len(values) for values in space.values()), random.Random(seed)
    chosen: dict[int, None] = {}
    while len(chosen) < min(n_trials, size):
        chosen[generator.randrange(size)] = None
    points = []
    for index in chosen:
        point = {}
        for name, values in space.items():
            index, digit = divmod(index, len(values))
            point[name] = values[digit]
        points.append(point)
    return points


def _optuna():
    try:
        import optuna
    except ImportError as error:
        raise ValueError("--hyperparameter_search needs Optuna: pip install 'vmhan[search]'") from error
    return optuna


def _entries(argv: Sequence[str]) -> dict[str, Any]:
    """The run's settings, of its file and flags, without those of the search and its place, and without tokens."""
    from_file = bool(argv) and argv[0].endswith((".yaml", ".yml"))
    entries = (read_entries(argv[0]) if from_file else {}) | to_entries(argv[from_file:])
    return {name: value for name, value in entries.items() if name not in NOT_TRIED and "token" not in name}


def _check_settings(study, entries: dict[str, Any], output_dir: Path) -> None:
    """Finished trials go on with the settings that they were made with; a study without any notes new ones."""
    compared = {name: value for name, value in entries.items() if name not in UNIMPORTANT}
    recorded = study.user_attrs.get(SETTINGS)
    is_begun = any(trial.state.name == "COMPLETE" for trial in study.get_trials())
    if recorded is None and is_begun:
        raise ValueError(f"{output_dir / 'search.db'} does not say of what settings its trials are: choose another.")
    if not is_begun:
        study.set_user_attr(SETTINGS, compared)
        return
    names = sorted({*recorded, *compared})
    different = [name for name in names if not same_value(recorded.get(name), compared.get(name))]
    if different:
        changes = ", ".join(f"{name} {recorded.get(name)!r} -> {compared.get(name)!r}" for name in different)
        raise ValueError(
            f"{output_dir / 'search.db'} has trials of other settings ({changes}): expected the same ones to go on "
            "with them. Choose another --output_dir."
        )


def _enqueue(study, points: list[dict[str, Any]], optuna) -> int:
    """Queue the points that have no finished trial; returns how many. A trial that was cut short counts as failed."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
    finished = [trial.params for trial in study.get_trials(states=(states.COMPLETE,))]
    queued = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(states=(states.WAITING,))]
    missing = [point for point in points if point not in finished]
    for point in missing:
        if point not in queued:
            study.enqueue_trial(point)
    return len(missing)


def _write(study, argv: Sequence[str], run_args: RunArguments, output_dir: Path) -> dict[str, Any]:
    trials = [
        {"number": trial.number, "state": trial.state.name.lower(), "validation_f1": trial.value, **trial.params}
        for trial in study.get_trials()
    ]
    best = study.best_trial
    found = {
        "seed": run_args.seed,
        "metric": "best validation F1 of the trial's evaluations",
        "best": {"number": best.number, "validation_f1": best.value, "fields": best.params},
        "trials": trials,
    }
    write_atomically(output_dir / "search.json", json.dumps(found, indent=2) + "\n")
    entries = _entries(argv) | best.params
    words = f"# Trial {best.number} of search.json: validation F1 {best.value:.4f}.\n"
    write_atomically(output_dir / "best.yaml", words + yaml.safe_dump(entries, sort_keys=False))
    logger.info("best of %d trials: validation F1 %.4f with %s", len(trials), best.value, best.params)
    return found
