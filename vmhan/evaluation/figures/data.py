"""The numbers behind each figure, as plain data that goes into a JSON file beside its picture.

Every figure is {figure, title, panels, notes}. F1 is micro F1 over relations (a fraction), its interval a bootstrap
over sentences, and both are means over the seeds of a system.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_cards.run_metadata import RUN_FILE
from vmhan.configs import current_settings
from vmhan.evaluation.figures.groups import GROUPINGS
from vmhan.evaluation.visual_share import read_shares
from vmhan.scoring.bootstrap import LEVEL, bootstrap_f1, bootstrap_ratio, sentence_counts
from vmhan.scoring.calibration import reliability
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.systems import System, seed_scores


__all__ = ["Scorer", "calibration", "detection", "grouped", "grouped_panel", "time_against_f1", "visual_shares"]

SECONDS = "train_seconds_per_epoch"
REFERENCES = ("bert", "mtb")  # rows that may stand for bare BERT, the first one that is there
SHARE_FIELDS = ("visual", "visual_share")  # the data arguments that say how much of an image is read
POSITIVE = "positive"
BINS = 10  # of confidence in the reliability diagram

Figure = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """Scores with their intervals as plain data; the fields are those of `vmhan.scoring.bootstrap.bootstrap_f1`."""

    resamples: int = 1000
    seed: int = 0
    level: float = LEVEL

    def f1(self, runs: Sequence[Predictions]) -> dict[str, Any]:
        """f1 (mean over the seeds' runs), low, high (its interval) and seeds (each run's own F1)."""
        interval = bootstrap_f1(runs, **vars(self))
        return {"f1": interval.value, "low": interval.low, "high": interval.high, "seeds": seed_scores(runs)["f1"]}

    def typing(self, runs: Sequence[Predictions]) -> dict[str, Any] | None:
        """Accuracy of the relation over the pairs that have one and were given one: accuracy, low, high, seeds, pairs.

        All but seeds are means over the seeds' runs; None where a run has no such pair.
        """
        counts = sentence_counts(runs, _typing_terms)  # (runs, S, 2)
        right, pairs = counts.sum(axis=1).T  # (runs,) each
        if not pairs.all():
            return None
        accuracy, low, high = bootstrap_ratio(counts, **vars(self))
        seeds = (right / pairs).tolist()
        return {"accuracy": accuracy, "low": low, "high": high, "seeds": seeds, "pairs": float(pairs.mean())}


def _typing_terms(gold: np.ndarray, predicted: np.ndarray, none_label: str) -> tuple[np.ndarray, np.ndarray]:
    both = (gold != none_label) & (predicted != none_label)
    return both & (gold == predicted), both


def grouped_panel(name: str, systems: Sequence[System], scorer: Scorer) -> dict[str, Any]:
    """F1 of each system in each group of `GROUPINGS[name]`: name, x (what the groups are), groups and notes.

    A group has its name, pairs, positive (pairs with a gold relation), sentences, and rows: {system: `Scorer.f1`}.
    """
    grouping, first = GROUPINGS[name], systems[0].predictions[0]
    members: dict[str | None, list[int]] = defaultdict(list)
    for index, group in enumerate(grouping.assign(first.rows, first.none_label)):
        members[group].append(index)
    notes, groups = [grouping.note] if grouping.note else [], []
    for group in grouping.groups:
        chosen = [first.rows[index] for index in members[group]]
        positive = sum(row["relation"] != first.none_label for row in chosen)
        if not positive:
            notes.append(f"left out: {group}, {len(chosen)} pairs and none with a relation")
            continue
        counts = {"pairs": len(chosen), "positive": positive, "sentences": len({row["id"] for row in chosen})}
        scores = {
            system.name: scorer.f1([replace(p, rows=[p.rows[i] for i in members[group]]) for p in system.predictions])
            for system in systems
        }
        groups.append({"group": group, **counts, "rows": scores})
    if members[None]:
        notes.append(f"{len(members[None])} of {len(first)} pairs are in no group")
    return {"name": name, "x": grouping.title, "groups": groups, "notes": notes}


def grouped(figure: str, title: str, names: Sequence[str], systems: Sequence[System], scorer: Scorer) -> Figure:
    """A figure of `grouped_panel`s; one without any group is left out, with a note."""
    panels = [grouped_panel(name, systems, scorer) for name in names]
    notes = [f"no panel '{p['name']}': {'; '.join(p['notes'])}" for p in panels if not p["groups"]]
    return {"figure": figure, "title": title, "panels": [p for p in panels if p["groups"]], "notes": notes}


def visual_shares(systems: Sequence[System], split: str, scorer: Scorer) -> Figure:
    """Figure 5: F1 with a growing share of the visual nodes; lines are {name: [{share, runs, and `Scorer.f1`}]}.

    Panel "evaluated" has a line a system: the finished model evaluated again by `vmhan visual-share`. Panel "trained"
    has a line a model and preset, of systems trained with --visual_share; without that flag it is 1, without images 0.
    """
    notes, evaluated = [], {}
    for system in systems:
        found = [{entry["share"]: entry["predicted"] for entry in read_shares(f, split=split)} for f in system.folders]
        points = [
            {"share": share, "runs": len(found)}
            | scorer.f1([_answered(p, of_run[share]) for p, of_run in zip(system.predictions, found)])
            for share in sorted(set.intersection(*map(set, found)))
        ]
        if points:
            evaluated[system.name] = points
        else:
            notes.append(f"{system.name} is not in 'evaluated': run vmhan visual-share on all its seeds")
    lines = {"evaluated": evaluated, "trained": _trained(systems, scorer, notes)}
    panels = [{"name": name, "lines": of_panel} for name, of_panel in lines.items() if of_panel]
    return {"figure": "Figure 5", "title": "share of the visual nodes kept", "panels": panels, "notes": notes}


def _answered(predictions: Predictions, names: Sequence[str]) -> Predictions:
    rows = [row | {"predicted": name} for row, name in zip(predictions.rows, names, strict=True)]
    return replace(predictions, rows=rows)


def _trained(systems: Sequence[System], scorer: Scorer, notes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Lines of systems that differ only in how much of the image they were trained with, named by model and preset,
    and from the second of one name on by their first system. Of two at one share the first counts; `notes` gets the
    other.
    """
    alike: dict[str, dict[float, list[System]]] = defaultdict(dict)
    partial, lines = set(), {}
    for system in systems:
        run = system.contents(RUN_FILE)[0]
        if not run:
            notes.append(f"{system.name} is not in 'trained': there is no {RUN_FILE}")
            continue
        data = current_settings(run["data"])
        share = 0.0 if data.get("visual") == "none" else data.get("visual_share", 1.0)
        rest = {key: value for key, value in data.items() if key not in SHARE_FIELDS}
        common = json.dumps([run["model"], rest, run.get("training")], sort_keys=True)
        alike[common].setdefault(share, []).append(system)
        partial |= {common} if "visual_share" in data else set()
    for common, by_share in alike.items():
        if common not in partial:
            continue
        model, first = json.loads(common)[0], next(iter(by_share.values()))[0]
        name = " ".join(str(model[key]) for key in ("model", "preset") if model.get(key))
        name = f"{name} ({first.name})" if name in lines else name
        lines[name] = [
            {"share": share, "row": system.name, "runs": len(system.folders)} | scorer.f1(system.predictions)
            for share, (system, *_) in sorted(by_share.items())
        ]
        for system, *others in by_share.values():
            notes += [f"{o.name} is not in 'trained': it has the settings of {system.name}" for o in others]
    return lines


def time_against_f1(systems: Sequence[System], scorer: Scorer, reference: System | None = None) -> Figure:
    """Figure 6: F1 against measured training time per epoch, in units of the reference's.

    The reference need not be among `systems`; None takes the first one that REFERENCES names, and without one times
    stay in seconds. points are {system: {seconds, relative (None without a reference) and `Scorer.f1`}}.
    """
    reference = reference or next((row for name in REFERENCES for row in systems if row.name == name), None)
    notes, points = [], {}
    unit = _seconds(reference) if reference else None
    if reference is None:
        notes.append(f"seconds, since there is no row of bare BERT, one of {list(REFERENCES)}: name it by --reference")
    elif unit is None:
        notes.append(f"seconds, since {reference.name} has no {SECONDS} in metrics.json")
    for system in systems:
        seconds = _seconds(system)
        if seconds is None:
            notes.append(f"left out: {system.name}, no {SECONDS} in metrics.json")
            continue
        relative = seconds / unit if unit else None
        points[system.name] = {"seconds": seconds, "relative": relative} | scorer.f1(system.predictions)
    x = f"training time an epoch, times that of {reference.name}" if unit else "training time an epoch (s)"
    panel = {"name": "time", "reference": reference.name if unit else None, "x": x, "points": points}
    panels = [panel] * bool(points)
    return {"figure": "Figure 6", "title": "performance and efficiency", "panels": panels, "notes": notes}


def _seconds(system: System) -> float | None:
    """Mean over the seeds that measured it."""
    measured = [metrics[SECONDS] for metrics in system.contents("metrics.json") if SECONDS in metrics]
    return float(np.mean(measured)) if measured else None


def detection(systems: Sequence[System], scorer: Scorer) -> Figure:
    """Is there a relation, and if so which: rows of panel "detection" have `Scorer.f1` of the first question, with
    precision and recall (means over seeds), rows of panel "typing" `Scorer.typing`.
    """
    found, typed, notes = {}, {}, []
    for system in systems:
        binary = [_binary(predictions) for predictions in system.predictions]
        scores = seed_scores(binary)
        means = {name: float(np.mean(scores[name])) for name in ("precision", "recall")}
        found[system.name] = scorer.f1(binary) | means
        if accuracy := scorer.typing(system.predictions):
            typed[system.name] = accuracy
        else:
            notes.append(f"left out of 'typing': {system.name}, a seed that found no pair with a relation")
    panels = [{"name": "detection", "rows": found}] + [{"name": "typing", "rows": typed}] * bool(typed)
    title = "none against positive, and which relation"
    return {"figure": "detection", "title": title, "panels": panels, "notes": notes}


def _binary(predictions: Predictions) -> Predictions:
    """Every relation is called POSITIVE."""
    none, names = predictions.none_label, ("relation", "predicted")
    rows = [row | {name: none if row[name] == none else POSITIVE for name in names} for row in predictions.rows]
    return replace(predictions, rows=rows, labels=[none, POSITIVE])


def calibration(systems: Sequence[System]) -> Figure:
    """Reliability of the saved (calibrated) probabilities of the seeds' pairs, pooled into BINS bins: rows are
    {system: {ece (mean over the seeds), seeds, bins (no empty ones): [{low, high, pairs, confidence, accuracy},
    ...]}}.
    """
    notes, found = [], {}
    for system in systems:
        if any(p.probabilities is None for p in system.predictions):
            notes.append(f"left out: {system.name}, no probabilities in predictions.jsonl")
            continue
        runs = [(p.probabilities, [p.labels.index(name) for name in p.gold]) for p in system.predictions]
        errors = [reliability(*run).expected_calibration_error for run in runs]
        pooled = reliability(*(np.concatenate(part) for part in zip(*runs)), num_bins=BINS)
        bins = [
            {"low": i / BINS, "high": (i + 1) / BINS, "pairs": int(n), "confidence": float(c), "accuracy": float(a)}
            for i, (n, c, a) in enumerate(zip(*pooled))
            if n
        ]
        found[system.name] = {"ece": float(np.mean(errors)), "seeds": errors, "bins": bins}
    panels = [{"name": "reliability", "rows": found}] * bool(found)
    return {"figure": "calibration", "title": "do probabilities mean what they say", "panels": panels, "notes": notes}
