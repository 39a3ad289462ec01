"""Evaluate a finished model again with a part of its visual nodes only (Figure 5, at evaluation; nothing is trained).

    vmhan visual-share RUN_DIR [RUN_DIR ...] --shares 0 0.25 0.5 0.75 1 [--data_dir DIR]

Posts are those that run.json names; folders of the machine are not in there: give --data_dir, --cache_dir or --dataset
again. After every share it writes visual_share.json into RUN_DIR; a killed command goes on where it was.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification

from model_cards.files import sha256_of, write_json
from model_cards.locks import lock_inside, locked
from model_cards.run_metadata import RUN_FILE
from modeling_vmhan import VMHANConfig, VMHANProcessor
from modeling_vmhan.decision import DecisionRule
from vmhan.evaluation.run_posts import LOCAL, load_run_posts
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score
from vmhan.scoring.systems import read_if_there
from vmhan.training.posts.data import make_collator
from vmhan.training.posts.mapped_features import with_mapped_features
from vmhan.training.posts.visual_dropout import check_share, kept_nodes, visual_nodes


__all__ = ["SHARES_FILE", "evaluate_shares", "main", "read_shares"]

logger = logging.getLogger(__name__)

SHARES_FILE = "visual_share.json"


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser("vmhan visual-share", description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="finished --output_dir of run_mmre.py")
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1], help="of the visual nodes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the draws: which nodes stay")
    parser.add_argument("--batch_size", type=int, default=32, help="posts")
    for name in LOCAL:
        parser.add_argument(f"--{name}", help="as in run_mmre.py, where run.json cannot say it")
    arguments = vars(parser.parse_args(argv))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    run_dirs, shares = arguments.pop("run_dirs"), arguments.pop("shares")
    for run_dir in run_dirs:
        with locked(lock_inside(run_dir), f"the run {run_dir}"):
            entries = evaluate_shares(run_dir, shares, **arguments)
        for entry in entries:
            logger.info("%s: share %.2f, F1 %.4f", run_dir, entry["share"], entry["f1"])


def evaluate_shares(
    run_dir: str | Path,
    shares: Sequence[float],
    *,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 32,
    **local: str | None,
) -> list[dict[str, Any]]:
    """Evaluate each share of the visual nodes (0 to 1) that visual_share.json does not have yet, and write it there.

    Returns of each share, ascending: share, nodes (of the split), kept (a fraction of these), the scores of
    `vmhan.scoring.scorer.score`, and predicted (a name a pair, in the order of predictions.jsonl). `local` are LOCAL.
    ValueError for a wrong share, a run that is no VM-HAN with weights, and posts not those of predictions.jsonl.
    """
    folder, shares = Path(run_dir), sorted({check_share(share) for share in shares})
    predictions = read_predictions(folder).split(split)
    done = {entry["share"]: entry for entry in read_shares(folder, split=split, seed=seed)}
    missing = [share for share in shares if share not in done]
    if missing:
        posts, predict = _prepare(folder, predictions, batch_size, seed, local)
        nodes = sum(len(visual_nodes(post)) for post in posts)
    for share in tqdm(missing, desc=f"shares of {folder}", unit="share"):
        predicted = predict(share)
        kept = sum(len(kept_nodes(post, share, seed=seed)) for post in posts) / max(nodes, 1)
        scores = score(predictions.gold, predicted, labels=predictions.labels, none_label=predictions.none_label)
        done[share] = {"split": split, "seed": seed, "share": share, "nodes": nodes, "kept": kept, **scores}
        done[share]["predicted"] = predicted
        content = {"of_predictions": _fingerprint(folder), "entries": [*_entries(folder), done[share]]}
        write_json(folder / SHARES_FILE, content)
    return [done[share] for share in shares]


def read_shares(run_dir: str | Path, *, split: str, seed: int = 0) -> list[dict[str, Any]]:
    """What `evaluate_shares` wrote of this split and seed, ascending; [] if the run was trained anew since, or never.

    ValueError if visual_share.json is damaged.
    """
    entries = [entry for entry in _entries(Path(run_dir)) if (entry["split"], entry["seed"]) == (split, seed)]
    return sorted(entries, key=lambda entry: entry["share"])


def _entries(folder: Path) -> list[dict[str, Any]]:
    content = read_if_there(folder / SHARES_FILE)
    return content["entries"] if content.get("of_predictions") == _fingerprint(folder) else []


def _fingerprint(folder: Path) -> str:
    """Of predictions.jsonl: another run in the same folder writes another one."""
    return sha256_of(folder / "predictions.jsonl")


def _prepare(folder: Path, predictions: Predictions, batch_size: int, seed: int, local: dict[str, str | None]):
    """The posts, and a function share -> the predicted relation of each pair; the model is loaded once."""
    model_type = read_if_there(folder / "config.json").get("model_type")
    if not (folder / "model.safetensors").is_file() or model_type != VMHANConfig.model_type:
        raise ValueError(
            f"{folder}: expected model.safetensors of a {VMHANConfig.model_type!r}, received a run of type "
            f"{model_type!r}. Keep the weights of a sweep's runs, or train with run_mmre.py --visual_share."
        )
    run = read_if_there(folder / RUN_FILE)
    posts = load_run_posts(run["data"], predictions.rows, local=local, without=["visual_share"])
    posts = with_mapped_features(posts.remove_columns([name for name in ("image",) if name in posts.column_names]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(device)
    processor, rule = VMHANProcessor.from_pretrained(folder), DecisionRule.of(model.config)
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=bool(run["training"].get("bf16")))

    @torch.inference_mode()
    def predict(share: float) -> list[str]:
        collator = make_collator(processor, model.config.label2id, share, seed=seed)
        best: list[int] = []
        with autocast:
            for batch in DataLoader(posts, batch_size=batch_size, collate_fn=collator):
                best += rule.probabilities(model(**batch.to(device)).logits).argmax(dim=-1).tolist()
        return [model.config.id2label[i] for i in best]

    return posts, predict
