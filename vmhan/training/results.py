"""What a run leaves in its --output_dir: metrics, predictions, card, an answered example."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME

from model_cards.cards import write_model_card
from model_cards.files import json_text, write_json, write_text
from model_cards.publishing import publish_model
from model_cards.run_metadata import RUN_FILE, describe_run
from modeling_vmhan import VMHANConfig, VMHANProcessor
from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.images import load_image
from modeling_vmhan.uncertainty import check_finite
from vmhan.baselines import BaselineConfig
from vmhan.scoring.calibration import draw_reliability_diagram, softmax
from vmhan.scoring.error_detection import error_aurocs
from vmhan.scoring.precision import draw_precision
from vmhan.training.arguments import DataArguments, ModelArguments, RunArguments
from vmhan.training.checkpoints import ASIDE
from vmhan.training.environment import describe_environment
from vmhan.training.loop.trainer import real_pairs
from vmhan.training.measures.raw_posts import raw_question
from vmhan.training.posts.data import FEATURE_COLUMNS


__all__ = ["complete", "describe", "prediction_rows", "save_folder", "show_example", "write_results"]

logger = logging.getLogger(__name__)


def save_folder(
    output_dir: Path, model: PreTrainedModel, processor: VMHANProcessor, weights: dict[str, Tensor] | None = None
) -> None:
    """The model and its processor, each file whole. config.json is the last one: a folder without it is unfinished,
    and one without run.json, which a run writes last of all and is taken away here, has no whole results.
    """
    aside = output_dir / ASIDE
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    model.save_pretrained(aside, state_dict=weights)
    processor.save_pretrained(aside)
    written = sorted(aside.iterdir(), key=lambda path: path.name == CONFIG_NAME)
    for path in (output_dir / RUN_FILE, output_dir / CONFIG_NAME, *output_dir.glob("model*.safetensors*")):
        path.unlink(missing_ok=True)
    for path in written:
        os.replace(path, output_dir / path.name)
    aside.rmdir()


def write_results(
    output_dir: Path,
    metrics: dict[str, Any],
    results: dict[str, Any],
    posts: datasets.DatasetDict,
    config: VMHANConfig | BaselineConfig,
    uncertainties: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    """environment.json, predictions.jsonl, metrics.json, and figures/ where matplotlib is there.

    `uncertainties` are those of `pair_uncertainties`, columns of the predictions; `metrics` get what they and the
    probabilities tell of the errors.
    """
    rows = []
    for split, result in results.items():
        of_split = prediction_rows(result, posts[split], split, config)
        for name, values in uncertainties.get(split, {}).items():
            of_split = [row | {name: value} for row, value in zip(of_split, values, strict=True)]
        metrics |= {f"{split}_{name}": value for name, value in error_aurocs(of_split).items()}
        rows += of_split
    write_json(output_dir / "environment.json", describe_environment())
    lines = (json_text(row, "predictions.jsonl") + "\n" for row in rows)
    write_text(output_dir / "predictions.jsonl", "".join(lines))
    write_json(output_dir / "metrics.json", metrics)
    logger.info("wrote %s: %s", output_dir / "metrics.json", {k: v for k, v in metrics.items() if "f1" in k})
    try:
        pairs = {split: real_pairs(result) for split, result in results.items()}
        draw_reliability_diagram(output_dir / "figures" / "reliability.png", pairs, DecisionRule.of(config))
        draw_precision(output_dir / "figures" / "precision.png", metrics.get("precision_table") or {})
    except ImportError as error:
        logger.warning("%s", error)


def prediction_rows(
    result, posts: datasets.Dataset, split: str, config: VMHANConfig | BaselineConfig
) -> list[dict[str, Any]]:
    """One row a pair, in the data's order, with the calibrated probability of every relation. ValueError that names
    the first post whose scores are not finite.
    """
    labels, rule, rows = config.labels, DecisionRule.of(config), []
    texts = posts.select_columns(["id", "tokens", "pairs"])
    for post, of_post, relations in zip(texts, result.predictions, result.label_ids, strict=True):
        check_finite(f"{split}, post {post['id']!r}", [of_post])
        for i, pair in enumerate(post["pairs"]):
            probabilities = softmax(of_post[i], rule)
            best, words = int(probabilities.argmax()), post["tokens"]
            rows.append(
                {
                    "split": split,
                    "id": post["id"],
                    "pair": i,
                    "head": " ".join(words[slice(*pair["head"])]),
                    "tail": " ".join(words[slice(*pair["tail"])]) if pair["tail"] else "[object]",
                    "head_span": list(pair["head"]),
                    "tail_span": list(pair["tail"]) or None,
                    "tail_object": pair.get("tail_object", -1),
                    "relation": labels[relations[i]],
                    "predicted": labels[best],
                    "score": float(probabilities[best]),
                    "probabilities": [round(float(p), 6) for p in probabilities],
                }
            )
    return rows


def describe(
    argv: list[str], model_args: ModelArguments, data_args: DataArguments, run_args: RunArguments
) -> dict[str, Any]:
    """What run.json and the card say of this run beside its metrics."""
    training = {**run_args.to_dict(), "world_size": run_args.world_size}
    training["num_train_epochs" if run_args.max_steps > 0 else "max_steps"] = None  # which does not count
    if run_args.tokens_per_batch is not None:
        training["per_device_train_batch_size"] = None
    groups = {"model": asdict(model_args), "data": asdict(data_args), "training": training}
    return describe_run(argv, **groups, licence=run_args.hub_license)


def complete(run_args: RunArguments, run: dict[str, Any], posts: datasets.DatasetDict, *, is_repository: bool) -> None:
    """Of a trained VM-HAN an answered example if asked for, the card, the upload; last run.json, the end of a run."""
    folder = Path(run_args.output_dir)
    stored = [posts[s] for s in ("test", "validation", "train") if isinstance(posts.get(s), datasets.Dataset)]
    if run_args.show_example and is_repository and stored:
        show_example(folder, stored[0])
    elif run_args.show_example:
        reason = "there is no split that is stored" if is_repository else "a baseline has no pipeline"
        logger.warning("no example is shown: %s; the answers are in predictions.jsonl", reason)
    if is_repository:
        write_model_card(folder, run, repo_id=run_args.hub_model_id, is_finished=not run_args.publish)
    if is_repository and run_args.publish:
        choice = {"private": run_args.hub_private_repo, "predictions": run_args.hub_predictions}
        repo_id = run_args.hub_model_id or folder.absolute().name
        publish_model(folder, repo_id, run=run, token=run_args.hub_token, **choice)
    if not is_repository or run_args.publish:
        write_json(folder / RUN_FILE, run)


def show_example(output_dir: Path, posts: datasets.Dataset) -> None:
    """Ask the saved folder, as a user would, about the test post with the most pairs, and log its answers.

    Leaves example.png and, where the model takes pictures, example.json: the question, whose image is that file.
    """
    pipe = transformers.pipeline(model=str(output_dir))
    post = posts[max(range(len(posts)), key=lambda i: len(posts[i]["pairs"]))]
    gold = [pipe.model.config.labels[pair.pop("relation")] for pair in post["pairs"]]
    post.pop("gold_objects", None)
    if post.get("image") is not None:
        picture = output_dir / "example.png"
        load_image(post["image"]).save(picture)
        logger.info("picture:  %s", picture)
        if pipe.model.config.vision_encoder is not None:
            post = {name: value for name, value in post.items() if name not in FEATURE_COLUMNS}
            question = json.dumps({**post, "image": picture.name}, indent=2)
            write_text(output_dir / "example.json", question + "\n")
            post["image"] = str(picture)
    logger.info("sentence: %s", post.get("text") or " ".join(post["tokens"]))
    for answer, relation in zip(pipe(post), gold, strict=True):
        words = "%(head)s -> %(tail)s: %(relation)s (%(score).2f), gold %(gold)s"
        logger.info(words, {**answer, "gold": relation})
    if pipe.model.config.mentions:
        facts = pipe(raw_question(post, pipe.model.config))
        facts = [f"{fact['head']} -> {fact['tail']}: {fact['relation']} ({fact['score']:.2f})" for fact in facts]
        logger.info("without being told the mentions: %s", "; ".join(facts) or "no fact")
