"""A finished model asked again with a part of its visual nodes only (Figure 5, at evaluation; nothing is trained).

    vmhan visual-share RUN_DIR [RUN_DIR ...] --shares 0 0.25 0.5 0.75 1 [--data_dir DIR]

Each RUN_DIR is an --output_dir of run_mmre.py with its weights. The posts are those that its run.json names; folders
of the machine are not in there: give --data_dir, --cache_dir or --dataset again. Writes visual_share.json into each
RUN_DIR after every share, and skips the shares that are in it: a killed command goes on where it was.
"""

import argparse
import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification

from model_cards.run_metadata import RUN_FILE, write_atomically
from modeling_vmhan import VMHANConfig, VMHANProcessor
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score
from vmhan.training.arguments import DataArguments, RunArguments
from vmhan.training.data import FEATURE_COLUMNS, load_posts, make_collator
from vmhan.training.trainer import RelationTrainer, real_pairs
from vmhan.training.visual_dropout import check_share, kept_nodes, visual_nodes


__all__ = ["SHARES_FILE", "evaluate_shares", "main", "read_shares"]

logger = logging.getLogger(__name__)

SHARES_FILE = "visual_share.json"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="finished --output_dir of run_mmre.py")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of the visual nodes, 0 to 1")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the draws: which nodes stay")
    parser.add_argument("--batch_size", type=int, default=32, help="posts")
    for name in ("dataset", "data_dir", "cache_dir"):
        parser.add_argument(f"--{name}", help="as in run_mmre.py, where run.json cannot say it")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    given = {name: getattr(arguments, name) for name in ("dataset", "data_dir", "cache_dir")}
    options = {"split": arguments.split, "seed": arguments.seed, "batch_size": arguments.batch_size}
    for run_dir in arguments.run_dirs:
        entries = evaluate_shares(run_dir, arguments.shares, **options, **given)
        for entry in entries:
            logger.info("%s: share %.2f, F1 %.4f", run_dir, entry["share"], entry["f1"])


def evaluate_shares(
    run_dir: str | Path,
    shares: Sequence[float],
    *,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 32,
    **given: str | None,
) -> list[dict[str, Any]]:
    """Evaluate each share that visual_share.json does not have yet, and write it there.

    Args:
        run_dir: with config.json, model.safetensors, the processor's files, run.json and predictions.jsonl.
        shares: of the visual nodes that each post keeps, 0 to 1; see `vmhan.training.visual_dropout`.
        split, seed: the posts, and the draws. batch_size: posts at once.
        given: `dataset`, `data_dir`, `cache_dir` of `DataArguments`, where not None.

    Returns:
        Of each share, ascending: share, kept (of all nodes of the split, as a fraction), nodes (their number), the
        scores of `vmhan.scoring.scorer.score` and predicted (a name a pair, in the order of predictions.jsonl).

    Raises:
        ValueError: a share outside [0, 1], no weights, another model than VM-HAN, no such split, or posts that are not
            those of predictions.jsonl.
    """
    folder, shares = Path(run_dir), sorted({check_share(share) for share in shares})
    predictions = read_predictions(folder).split(split)
    done = {entry["share"]: entry for entry in read_shares(folder, split=split, seed=seed)}
    missing = [share for share in shares if share not in done]
    if missing:
        posts, run_args = _posts_of(folder, split, batch_size, given)
        _check_posts(posts, predictions, folder)
        evaluate = _evaluator(folder, posts, run_args, seed)
        for share in tqdm(missing, desc=f"shares of {folder}", unit="share"):
            entry = {"split": split, "seed": seed, "share": share} | _kept(posts, share, seed)
            predicted = evaluate(share)
            scores = score(predictions.gold, predicted, labels=predictions.labels, none_label=predictions.none_label)
            done[share] = entry | scores | {"predicted": predicted}
            _warn_of_other_answers(folder, done[share], predictions)
            _add_entry(folder, done[share])
    return [done[share] for share in shares]


def read_shares(run_dir: str | Path, *, split: str, seed: int = 0) -> list[dict[str, Any]]:
    """What `evaluate_shares` wrote of this split and seed, ascending; [] if the run was trained anew since, or never.

    Raises:
        ValueError: visual_share.json is damaged.
    """
    entries = [entry for entry in _entries(Path(run_dir)) if (entry["split"], entry["seed"]) == (split, seed)]
    return sorted(entries, key=lambda entry: entry["share"])


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / SHARES_FILE
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["entries"] if content["of_predictions"] == _fingerprint(folder) else []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected JSON of vmhan.evaluation.visual_share, received none that can be read ({error!r}). Delete it."
        ) from error


def _add_entry(folder: Path, entry: dict[str, Any]) -> None:
    content = {"of_predictions": _fingerprint(folder), "entries": [*_entries(folder), entry]}
    write_atomically(folder / SHARES_FILE, json.dumps(content) + "\n")


def _fingerprint(folder: Path) -> str:
    """Of predictions.jsonl: another run in the same folder writes another one."""
    return hashlib.sha256((folder / "predictions.jsonl").read_bytes()).hexdigest()


def _posts_of(
    folder: Path, split: str, batch_size: int, given: dict[str, str | None]
) -> tuple[datasets.Dataset, RunArguments]:
    """The split as the run saw it, but not thinned and without pictures, and the arguments to evaluate with."""
    if not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"{folder}: expected the run's weights, model.safetensors, found none. Train it again, or keep the "
            "weights of the sweep's runs."
        )
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    if model_type != VMHANConfig.model_type:
        raise ValueError(
            f"{folder}: expected a model of type {VMHANConfig.model_type!r}, received {model_type!r}. Train a baseline "
            "on a share of the visual nodes instead: run_mmre.py --visual_share."
        )
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    known = {field.name for field in fields(DataArguments)} - {"visual_share"}
    values = {name: value for name, value in run["data"].items() if name in known}
    data_args = DataArguments(**values | {name: value for name, value in given.items() if value is not None})
    run_args = RunArguments(
        output_dir=tempfile.gettempdir(),  # nothing is written there
        per_device_eval_batch_size=batch_size,
        bf16=bool(run["training"].get("bf16")),
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    splits = load_posts(data_args, run_args)
    if split not in splits:
        raise ValueError(f"split: expected one of {list(splits)}, received {split!r}.")
    posts = splits[split].remove_columns([name for name in ("image",) if name in splits[split].column_names])
    vectors = [name for name in FEATURE_COLUMNS if name in posts.column_names]
    return (posts.with_format("numpy", columns=vectors, output_all_columns=True) if vectors else posts), run_args


def _check_posts(posts: datasets.Dataset, predictions: Predictions, folder: Path) -> None:
    """ValueError unless these posts have the pairs of predictions.jsonl, in its order."""
    names = posts.features["pairs"].feature["relation"].names
    narrow = posts.select_columns(["id", "pairs"])
    found = [(post["id"], names[pair["relation"]]) for post in narrow for pair in post["pairs"]]
    expected = [(row["id"], row["relation"]) for row in predictions.rows]
    if found != expected:
        raise ValueError(
            f"{folder}: expected the posts that its predictions.jsonl was made of ({len(expected)} pairs), built "
            f"others ({len(found)} pairs). Give the --data_dir and --dataset of the run."
        )


def _evaluator(folder: Path, posts: datasets.Dataset, run_args: RunArguments, seed: int):
    """share -> the predicted relation of each pair; the model is loaded once."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    processor = VMHANProcessor.from_pretrained(folder)
    trainer = RelationTrainer(model=model, args=run_args)

    def evaluate(share: float) -> list[str]:
        trainer.data_collator = make_collator(processor, model.config.label2id, share, seed=seed)
        logits, _ = real_pairs(trainer.predict(posts))
        return [model.config.id2label[int(best)] for best in logits.argmax(axis=-1)]

    return evaluate


def _kept(posts: datasets.Dataset, share: float, seed: int) -> dict[str, float | int]:
    """How many visual nodes the split's posts have, and the part of them that this share really keeps."""
    kept = total = 0
    for post in posts:
        kept += len(kept_nodes(post, share, seed=seed))
        total += len(visual_nodes(post))
    return {"nodes": total, "kept": kept / total if total else 0.0}


def _warn_of_other_answers(folder: Path, entry: dict[str, Any], predictions: Predictions) -> None:
    """With the visual nodes that the run itself had, its answers should come again."""
    own = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["data"].get("visual_share", 1.0)
    if (entry["share"], entry["seed"]) == (own, 0):
        others = sum(a != b for a, b in zip(entry["predicted"], predictions.predicted, strict=True))
        if others:
            logger.warning("%s: %d of %d answers are not those of its run", folder, others, len(predictions.rows))
