"""The numbers behind each figure, as plain data that goes into a JSON file beside its picture.

Every figure is {figure, title, panels, notes}; what a panel holds says the function that makes it. F1 is micro F1 over
relations (a fraction), its interval a bootstrap over sentences, and both are means over the seeds of a row.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from model_cards.run_metadata import RUN_FILE
from vmhan.evaluation.figures.groups import GROUPINGS, detection_rows
from vmhan.evaluation.figures.rows import Row, Scorer, with_rows
from vmhan.evaluation.visual_share import read_shares
from vmhan.scoring.calibration import reliability
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.scorer import score


__all__ = ["calibration", "detection", "grouped", "grouped_panel", "time_against_f1", "visual_shares"]

SECONDS = "train_seconds_per_epoch"
REFERENCES = ("bert", "mtb")  # rows that may stand for bare BERT, the first one there
SHARE_FIELDS = ("no_visual", "visual_share")  # of what the data flags say
POSITIVE = "positive"
BINS = 10  # of confidence in the reliability diagram


def grouped_panel(name: str, rows: Sequence[Row], scorer: Scorer) -> dict[str, Any]:
    """F1 of each row in each group of `GROUPINGS[name]`.

    Returns:
        name, x (what the groups are), groups and notes. A group has its name, pairs, positive (pairs with a gold
        relation), sentences, and rows: {row name: `Scorer.f1`}.
    """
    grouping, first = GROUPINGS[name], rows[0].predictions[0]
    assigned = grouping.assign(first.rows, first.none_label)
    members: dict[str | None, list[int]] = defaultdict(list)
    for index, group in enumerate(assigned):
        members[group].append(index)
    notes, groups = [grouping.note] if grouping.note else [], []
    for group in grouping.groups:
        chosen = [first.rows[index] for index in members[group]]
        positive = sum(row["relation"] != first.none_label for row in chosen)
        if not positive:
            notes.append(f"left out: {group}, {len(chosen)} pairs and none with a relation")
            continue
        counts = {"pairs": len(chosen), "positive": positive, "sentences": len({row["id"] for row in chosen})}
        scores = {row.name: scorer.f1([_only(p, members[group]) for p in row.predictions]) for row in rows}
        groups.append({"group": group, **counts, "rows": scores})
    if members[None]:
        notes.append(f"{len(members[None])} of {len(assigned)} pairs are in no group")
    return {"name": name, "x": grouping.title, "groups": groups, "notes": notes}


def _only(predictions: Predictions, indices: list[int]) -> Predictions:
    return with_rows(predictions, [predictions.rows[index] for index in indices])


def grouped(figure: str, title: str, names: Sequence[str], rows: Sequence[Row], scorer: Scorer) -> dict[str, Any]:
    """A figure of `grouped_panel`s; one without any group is left out, with a note."""
    panels = [grouped_panel(name, rows, scorer) for name in names]
    notes = [f"no panel '{p['name']}': {'; '.join(p['notes'])}" for p in panels if not p["groups"]]
    return {"figure": figure, "title": title, "panels": [p for p in panels if p["groups"]], "notes": notes}


def visual_shares(rows: Sequence[Row], split: str, scorer: Scorer) -> dict[str, Any]:
    """Figure 5: F1 with a growing share of the visual nodes.

    Returns:
        Panels "evaluated" (one line a row: the finished model, asked again by `vmhan.evaluation.visual_share`) and "trained"
        (one line a model and preset: rows trained with --visual_share; its row without that flag is share 1, that
        with --no_visual share 0). Panels have lines: {name: [{share, runs, and `Scorer.f1`}, ...]}.
    """
    notes, evaluated = [], {}
    for row in rows:
        found = [{entry["share"]: entry["predicted"] for entry in read_shares(f, split=split)} for f in row.folders]
        shares = sorted(set.intersection(*map(set, found)))
        if shares:
            evaluated[row.name] = [
                {"share": share, "runs": len(found)} | scorer.f1(_answers(row, found, share)) for share in shares
            ]
        else:
            notes.append(f"{row.name} is not in 'evaluated': run vmhan visual-share on all its seeds")
    panels = [{"name": "evaluated", "lines": evaluated}, {"name": "trained", "lines": _trained(rows, scorer, notes)}]
    panels = [panel for panel in panels if panel["lines"]]
    return {"figure": "Figure 5", "title": "share of the visual nodes kept", "panels": panels, "notes": notes}


def _answers(row: Row, found: list[dict[float, list[str]]], share: float) -> list[Predictions]:
    return [
        with_rows(p, [old | {"predicted": new} for old, new in zip(p.rows, of_run[share], strict=True)])
        for p, of_run in zip(row.predictions, found)
    ]


def _trained(rows: Sequence[Row], scorer: Scorer, notes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Lines of rows that differ in nothing but how much of the image they were trained with.

    A line is named after model and preset; of several such lines the later ones after their first row, too. Of two
    rows at one share the first counts, and `notes` gets the other.
    """
    lines: dict[str, dict[float, dict[str, Any]]] = {}
    names: dict[str, str] = {}  # of what the rows of a line have in common
    again: list[tuple[str, str]] = []
    thinned = set()
    for row in rows:
        run = row.contents(RUN_FILE)[0]
        data = {key: value for key, value in run["data"].items() if key not in SHARE_FIELDS}
        common = json.dumps([run["model"], data, run.get("training")], sort_keys=True)
        if common not in names:
            name = " ".join(str(run["model"][key]) for key in ("model", "preset") if run["model"].get(key))
            names[common] = name if name not in lines else f"{name} ({row.name})"
            lines[names[common]] = {}
        line = lines[names[common]]
        share = 0.0 if run["data"].get("no_visual") else run["data"].get("visual_share", 1.0)
        if "visual_share" in run["data"]:
            thinned.add(names[common])
        if share in line:
            again.append(
                (names[common], f"{row.name} is not in 'trained': it has the settings of {line[share]['row']}")
            )
        else:
            line[share] = {"share": share, "row": row.name, "runs": len(row.folders)} | scorer.f1(row.predictions)
    notes += [note for name, note in again if name in thinned]
    return {name: [line[share] for share in sorted(line)] for name, line in lines.items() if name in thinned}


def time_against_f1(rows: Sequence[Row], scorer: Scorer, reference: Row | None = None) -> dict[str, Any]:
    """Figure 6: F1 against measured training time per epoch, in units of the reference row's.

    Args:
        reference: a row that need not be among `rows`; None takes the first row named as in REFERENCES, and without
            one times stay in seconds.

    Returns:
        One panel: reference (name or None), x, points: {row name: {seconds, relative (None without a reference) and
        `Scorer.f1`}}.
    """
    reference = reference or next((row for name in REFERENCES for row in rows if row.name == name), None)
    notes, points = [], {}
    unit = _seconds(reference) if reference else None
    if reference is None:
        notes.append(f"seconds, since there is no row of bare BERT, one of {list(REFERENCES)}: name it by --reference")
    elif unit is None:
        notes.append(f"seconds, since {reference.name} has no {SECONDS} in metrics.json")
    for row in rows:
        seconds = _seconds(row)
        if seconds is None:
            notes.append(f"left out: {row.name}, no {SECONDS} in metrics.json")
            continue
        relative = seconds / unit if unit else None
        points[row.name] = {"seconds": seconds, "relative": relative} | scorer.f1(row.predictions)
    x = f"training time an epoch, times that of {reference.name}" if unit else "training time an epoch (s)"
    panel = {"name": "time", "reference": reference.name if unit else None, "x": x, "points": points}
    return {
        "figure": "Figure 6",
        "title": "performance and efficiency",
        "panels": [panel] * bool(points),
        "notes": notes,
    }


def _seconds(row: Row) -> float | None:
    """Mean over the seeds that measured it."""
    measured = [metrics[SECONDS] for metrics in row.contents("metrics.json") if SECONDS in metrics]
    return float(np.mean(measured)) if measured else None


def detection(rows: Sequence[Row], scorer: Scorer) -> dict[str, Any]:
    """Is there a relation, and if so which: two panels of one group.

    Returns:
        Panel "detection": rows have `Scorer.f1` of "there is a relation", and precision and recall (means over seeds).
        Panel "typing": rows have `Scorer.typing`.
    """
    found, typed, notes = {}, {}, []
    for row in rows:
        binary = [
            with_rows(p, detection_rows(p.rows, p.none_label, positive=POSITIVE), [p.none_label, POSITIVE])
            for p in row.predictions
        ]
        scores = [score(p.gold, p.predicted, labels=p.labels, none_label=p.none_label) for p in binary]
        means = {name: float(np.mean([of_run[name] for of_run in scores])) for name in ("precision", "recall")}
        found[row.name] = scorer.f1(binary) | means
        accuracy = scorer.typing(row.predictions)
        if accuracy:
            typed[row.name] = accuracy
        else:
            notes.append(f"left out of 'typing': {row.name}, a seed that found no pair with a relation")
    panels = [{"name": "detection", "rows": found}] + [{"name": "typing", "rows": typed}] * bool(typed)
    return {
        "figure": "detection",
        "title": "none against positive, and which relation",
        "panels": panels,
        "notes": notes,
    }


def calibration(rows: Sequence[Row]) -> dict[str, Any]:
    """Reliability of the saved (calibrated) probabilities; the seeds' pairs are pooled into BINS bins.

    Returns:
        One panel: rows: {row name: {ece (mean over the seeds, 15 bins), seeds, bins: [{low, high, pairs, confidence,
        accuracy}, ...] without the empty ones}}.
    """
    notes, found = [], {}
    for row in rows:
        if any(p.probabilities is None for p in row.predictions):
            notes.append(f"left out: {row.name}, no probabilities in predictions.jsonl")
            continue
        runs = [(p.probabilities, [p.labels.index(name) for name in p.gold]) for p in row.predictions]
        errors = [reliability(*run).expected_calibration_error for run in runs]
        pooled = reliability(np.concatenate([p for p, _ in runs]), np.concatenate([g for _, g in runs]), num_bins=BINS)
        bins = [
            {"low": i / BINS, "high": (i + 1) / BINS, "pairs": int(n), "confidence": float(c), "accuracy": float(a)}
            for i, (n, c, a) in enumerate(zip(*pooled))
            if n
        ]
        found[row.name] = {"ece": float(np.mean(errors)), "seeds": errors, "bins": bins}
    panels = [{"name": "reliability", "rows": found}] * bool(found)
    return {"figure": "calibration", "title": "do probabilities mean what they say", "panels": panels, "notes": notes}
