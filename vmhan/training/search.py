"""`vmhan search [CONFIG] --space SPACE --n_trials 5 [--flag value ...]`: grid search on the validation split.

The space is a YAML file of fields, each with the list of values to try; a trial is one point of their grid, drawn by
the run's seed. Trials are kept in search.db: a killed search of the same settings and space goes on with the point it
was at. The test split is never looked at. Optuna (`pip install 'vmhan[search]'`) draws the points.
"""

import argparse
import functools
import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from datasets_scripts.commands import nearest
from datasets_scripts.configs import find_config, flags_of, read_entries
from model_cards.files import write_json, write_text
from model_cards.secrets import is_secret
from vmhan.configs import normal
from vmhan.training.arguments import DataArguments, ModelArguments, RunArguments, parse_arguments
from vmhan.training.building.models import build_model
from vmhan.training.command import make_trainer, only_here, set_up_logging
from vmhan.training.flags import to_entries
from vmhan.training.loop.trainer import DivergedError
from vmhan.training.own_data import own_data, settle_pictures
from vmhan.training.posts.data import load_posts, make_collator, with_lengths


__all__ = ["main", "read_space"]

logger = logging.getLogger(__name__)

USAGE = "vmhan search [CONFIG] --space SPACE [--n_trials 5] [--flag value ...]"
UNIMPORTANT = ("cache_dir", "disable_tqdm")  # a trial's score does not depend on these
OWN = {
    "--space": {"default": "search_space", "help": "YAML file of fields, each with the list of values to try."},
    "--n_trials": {"type": int, "default": 5, "help": "Trials of the search; the paper has five."},
}
NOT_TRIED = ("output_dir", "resume_from_checkpoint", "space", "n_trials", "seed")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Try the points, write search.json (all trials) and best.yaml (a config of `vmhan train`); returns the former.

    ValueError: no Optuna; a space that does not fit; several processes; no validation split.
    """
    argv = sys.argv[1:] if argv is None else argv
    posts = own_data(argv)
    argv = [*posts.flags, *argv] if posts else argv
    model_args, data_args, run_args, own = parse_arguments(argv, usage=USAGE, also=OWN)
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError("vmhan search needs Optuna: pip install 'vmhan[search]'") from error
    set_up_logging(run_args)
    if posts is not None:
        settle_pictures(posts, model_args, data_args)
    if data_args.may_save_vision and data_args.visual == "pixels":  # nobody asked, and no trial is kept
        data_args.visual = "features"
    data_args.may_save_vision = False
    set_seed(run_args.seed)
    if run_args.world_size > 1:
        raise ValueError(f"vmhan search runs in one process, received {run_args.world_size}.")
    space = read_space(own.space)
    n_trials = min(own.n_trials, math.prod(map(len, space.values())))
    entries = _entries(argv)
    if data_args.features is None:
        entries.pop("features", None)
    with only_here(run_args):
        return _search(entries, space, n_trials, model_args, data_args, run_args)


def _search(
    entries: Mapping[str, Any],
    space: dict[str, list],
    n_trials: int,
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: RunArguments,
) -> dict[str, Any]:
    """Try the points of `space` until there are `n_trials`, those of an earlier search included."""
    import optuna

    output_dir = Path(run_args.output_dir)
    run_args.save_strategy, run_args.load_best_model_at_end = SaveStrategy.NO, False  # a trial leaves its score only
    run_args.early_stopping_patience = None
    if run_args.eval_strategy == IntervalStrategy.NO:
        run_args.eval_strategy = IntervalStrategy.EPOCH
    trials = _Trials(space, model_args, data_args, run_args)
    options = {
        "direction": "maximize",
        "storage": f"sqlite:///{output_dir / 'search.db'}",
        "load_if_exists": True,
        "study_name": _study_name(entries, space),
        "sampler": optuna.samplers.GridSampler(space, seed=run_args.seed),
        "pruner": optuna.pruners.NopPruner(),  # a trial cut short would have no value
    }
    study = optuna.create_study(**options)
    _try_points(study, trials, n_trials, options)
    return _write(study, entries, run_args.seed, output_dir)


def _try_points(study, trials: "_Trials", n_trials: int, options: Mapping[str, Any]) -> None:
    """Those that are missing. ValueError where the training of all diverged."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # cut short by a kill
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    missing = n_trials - len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))
    try:
        if missing > 0:
            trials.trainer.hyperparameter_search(
                hp_space=trials.training_fields,
                compute_objective=trials.best_so_far,
                n_trials=missing,
                backend="optuna",
                **options,
            )
        study.best_trial  # noqa: B018  ValueError where there is none
    except ValueError as error:
        if {trial.state for trial in study.get_trials()} != {TrialState.PRUNED}:
            raise
        raise ValueError("--space: the training of every point diverged: give it lower learning rates.") from error


class _Trials:
    """The Trainer whose model is built anew for each trial, and what it asks for on the way.

    A trial that diverges is pruned, with the reason in the log: its point is not tried again.
    """

    def __init__(self, space: dict[str, list], model_args, data_args, run_args):
        self._space, self._model_args, self._data_args, self._best = space, model_args, data_args, -math.inf
        self._posts = load_posts(data_args, run_args, model_args.reads)
        self._posts.pop("test", None)
        if "validation" not in self._posts:
            raise ValueError(f"vmhan search needs a validation split, received only {list(self._posts)}.")
        model, processor = build_model(model_args, data_args, self._posts)
        posts = with_lengths(self._posts, processor, run_args)
        self.trainer = None
        self.trainer = make_trainer(model, processor, posts, data_args, run_args, model_init=self.model)
        self.trainer.train = functools.partial(_pruned_if_diverged, self.trainer.train)

    def model(self, trial):
        """A fresh model of the trial's fields; the collator gets the processor that belongs to it."""
        self._best = -math.inf
        point = {} if trial is None else self._point(trial)
        changed = {name: value for name, value in point.items() if hasattr(self._model_args, name)}
        model, processor = build_model(replace(self._model_args, **changed), self._data_args, self._posts)
        if self.trainer is not None:
            collator = make_collator(processor, model.config.label2id, self._data_args.visual_share)
            self.trainer.data_collator = collator
        return model

    def training_fields(self, trial) -> dict[str, Any]:
        """Trainer makes each the type of the value that it replaces, a warmup of 0.06 after the default 0 a 0: so they
        are set here already. Names of an Enum alone are left to it.
        """
        found = {name: value for name, value in self._point(trial).items() if not hasattr(self._model_args, name)}
        for name, value in found.items():
            if not isinstance(getattr(self.trainer.args, name), Enum):
                setattr(self.trainer.args, name, value)
        return found

    def best_so_far(self, metrics: Mapping[str, float]) -> float:
        self._best = max(self._best, metrics["eval_f1"])
        return self._best

    def _point(self, trial) -> dict[str, Any]:
        return {name: trial.suggest_categorical(name, values) for name, values in self._space.items()}


def _pruned_if_diverged(train: Callable[..., Any], **options: Any) -> Any:
    try:
        return train(**options)
    except DivergedError as error:
        from optuna import TrialPruned

        raise TrialPruned(str(error)) from error


def read_space(name: str | Path) -> dict[str, list]:
    """Field -> values to try, of the field's type, of a YAML file or one that comes with the package.

    ValueError if a name is no field of the model or of the training, or has no list of different values of its type.
    """
    path = find_config(name)
    parser = HfArgumentParser((ModelArguments, RunArguments), exit_on_error=False)
    known = {f.name for group in (ModelArguments, RunArguments) for f in fields(group)} - set(NOT_TRIED)
    space: dict[str, list] = {}
    for name, values in read_entries(path).items():
        if name not in known:
            raise ValueError(
                f"{path}: expected fields of the model or of the training, received {name!r}{nearest(name, known)}"
            )
        words = [flags_of({name: value}) for value in values] if isinstance(values, list) else []
        try:  # as in a configuration, where YAML reads 1e-4 as a string, too
            space[name] = [getattr(parser.parse_args(flag), name) for flag in words]
        except argparse.ArgumentError as error:
            raise ValueError(f"{path}: {error}") from None
        if not words or len(set(map(str, space[name]))) != len(words):
            raise ValueError(f"{path}: expected {name} to have different values to try, received {values!r}.")
    return space


def _entries(argv: Sequence[str]) -> dict[str, Any]:
    """The run's settings, of its file and flags, without those of the search's place, and without tokens."""
    from_file = bool(argv) and not argv[0].startswith("-")
    entries = (read_entries(find_config(argv[0])) if from_file else {}) | to_entries(argv[from_file:])
    return {name: value for name, value in entries.items() if name not in NOT_TRIED[:-1] and not is_secret(name)}


def _study_name(entries: Mapping[str, Any], space: Mapping[str, list]) -> str:
    """One study for each set of settings and space: search.db may hold several, whose trials are not mixed."""
    compared = {name: normal(value) for name, value in sorted(entries.items()) if name not in UNIMPORTANT}
    return hashlib.sha256(json.dumps([compared, space], sort_keys=True).encode()).hexdigest()[:16]


def _write(study, entries: Mapping[str, Any], seed: int, output_dir: Path) -> dict[str, Any]:
    found = {
        "seed": seed,
        "metric": "best validation F1 of the trial's evaluations",
        "best": _row(study.best_trial),
        "trials": [_row(trial) for trial in study.get_trials()],
    }
    write_json(output_dir / "search.json", found)
    best, score = study.best_params, study.best_value
    words = f"# Trial {study.best_trial.number} of search.json: validation F1 {score:.4f}.\n"
    write_text(output_dir / "best.yaml", words + yaml.safe_dump({**entries, **best}, sort_keys=False))
    logger.info("best of %d trials: validation F1 %.4f with %s", len(found["trials"]), score, best)
    return found


def _row(trial) -> dict[str, Any]:
    """`validation_f1` is the best of the evaluations of the trial's training, in [0, 1]."""
    state = trial.state.name.lower()
    return {"number": trial.number, "state": state, "validation_f1": trial.value, "fields": trial.params}
