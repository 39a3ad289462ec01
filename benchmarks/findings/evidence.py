"""Which part of V-HAN reads which kind of evidence? Short trials on postcards, with the text encoder frozen.

    OMP_NUM_THREADS=1 python -m benchmarks.findings.evidence --datasets same_head --rows full post --seeds 1 2 3

Data sets and rows are those of the sweep postcards_evidence, of which `vmhan sweep` makes whole runs of minutes each.
A trial takes 20 seconds of a core: the text encoder's states are computed once and not trained, and a sticker has the
random VGG16 features of one of six drawings of it. NUM_TRAIN posts, NUM_STEPS steps of 8, scored on NUM_SCORED posts
of the validation split. Writes evidence.json, to which later calls add, and prints a table for each data set.
"""

import functools
import logging
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import get_linear_schedule_with_warmup, set_seed

from benchmarks.harness.cells import between, percent
from benchmarks.harness.command import new_parser
from datasets_scripts.builders.postcard_pictures import POSTCARDS_COLOURS, POSTCARDS_SHAPES, draw_picture
from datasets_scripts.builders.postcards import POSTCARDS_RELATIONS, Postcard, PostcardsConfig, make_postcard
from datasets_scripts.schema import new_post
from model_cards.files import write_json
from model_cards.tables import markdown_table
from modeling_vmhan import VMHANCollator, VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.explanation import attention_rollout
from modeling_vmhan.weights import load_region_encoder
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep
from vmhan.scoring.bootstrap import paired_test
from vmhan.scoring.calibration import reliability
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.scorer import score
from vmhan.scoring.systems import read_if_there
from vmhan.training.arguments import parse_arguments
from vmhan.training.environment import describe_environment
from vmhan.training.text_encoders import load_text_encoder


__all__ = ["main", "table"]

SWEEP = "postcards_evidence"
NUM_TRAIN, NUM_SCORED, NUM_STEPS, BATCH = 800, 250, 300, 8
NUM_DRAWINGS, CROP_SIZE, IMAGE_SIZE = 6, 32, 96

logger = logging.getLogger(__name__)


@functools.cache
def draw_features() -> dict[Any, Tensor]:
    """Random VGG16 features (NUM_DRAWINGS, V) of each look of a sticker, by it, and of pictures, by None."""
    encoder, transform = load_region_encoder("vgg16", "random:0")
    rng, crops = random.Random(0), {}
    looks = [(c, s, False) for c in POSTCARDS_COLOURS for s in POSTCARDS_SHAPES]
    for look in looks + [(colour, "", True) for colour in POSTCARDS_COLOURS]:
        drawn = [draw_picture(rng, IMAGE_SIZE, [look]) for _ in range(NUM_DRAWINGS)]
        crops[look] = [image.crop(stickers[0].box) for image, stickers in drawn]
    crops[None] = [draw_picture(rng, IMAGE_SIZE, rng.sample(looks, 3))[0] for _ in range(4 * NUM_DRAWINGS)]
    mean, std = (torch.tensor(of)[:, None, None] for of in (transform.mean, transform.std))

    def pixels(crop: Any) -> Tensor:
        crop = np.array(crop.resize((CROP_SIZE, CROP_SIZE)))
        return (torch.from_numpy(crop).permute(2, 0, 1) / 255 - mean) / std

    with torch.no_grad():
        return {look: encoder.float()(torch.stack([*map(pixels, of_look)])) for look, of_look in crops.items()}


class Cards:
    """Postcards of a split as posts with features."""

    def __init__(self, config: PostcardsConfig, split: str, number: int):
        self.cards = [make_postcard(config, split, index) for index in range(number)]
        rng = random.Random(split)
        self.posts = [self._post(card, str(i), draw_features(), rng) for i, card in enumerate(self.cards)]

    def _post(self, card: Postcard, name: str, features: dict[Any, Tensor], rng: random.Random) -> dict[str, Any]:
        looks = [(s.colour, "" if s.is_hidden else s.shape, s.is_hidden) for s in card.stickers]
        image, *objects = (rng.choice(features[look]).numpy() for look in (None, *looks))
        nodes = {"image_features": image, "object_features": np.stack(objects), "image_phrases": card.image_phrases}
        return new_post(name, card.tokens, name, card.pairs, **nodes)

    def groups(self) -> dict[str, np.ndarray]:
        """Which pairs (n,) are of each kind and not hidden, and which are "hidden"."""
        kinds = np.array([kind for card in self.cards for kind in card.kinds])
        found = [(card, i) for card in self.cards for i in card.gold_objects]
        hidden = np.array([i >= 0 and card.stickers[i].is_hidden for card, i in found])
        return {kind: (kinds == kind) & ~hidden for kind in sorted({*kinds.tolist()})} | {"hidden": hidden}


class Trial:
    """A model, of which all but the text encoder is trained."""

    def __init__(self, argv: Sequence[str], seed: int):
        model_args, _, self.run_args = parse_arguments(argv)
        set_seed(seed)
        encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
        given = model_args.config_fields() | {"id2label": dict(enumerate(POSTCARDS_RELATIONS)), "mentions": False}
        self.config = VMHANConfig.from_preset(model_args.preset, text_config=encoder.config, **given)
        self.processor = VMHANProcessor.for_config(self.config, tokenizer, max_length=model_args.max_length)
        vocab_size = len(self.processor.tokenizer)
        self.model = VMHANForRelationClassification.from_text_encoder(encoder, self.config, vocab_size=vocab_size)

    @property
    def reads(self) -> tuple:
        """What of the configuration changes a batch."""
        names = ("hypergraph_scope", "visual_feature_size", "num_objects", "num_text_phrases", "num_image_phrases")
        return tuple(getattr(self.config, name) for name in names)

    @torch.no_grad()
    def batches(self, posts: Sequence[dict], size: int) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Batches of `size` posts, and the states of their text."""
        collate, encode = VMHANCollator(self.processor, self.config.label2id), type(self.model.vmhan).encode_text
        names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")
        made = [dict(collate(posts[start : start + size])) for start in range(0, len(posts), size)]
        self.model.eval()
        texts = [{name: batch[name] for name in names if name in batch} for batch in made]
        return [(batch, encode(self.model.vmhan, **text)) for batch, text in zip(made, texts)]

    def __call__(self, batch: dict[str, Tensor], states: Tensor, **options: Any) -> Any:
        """The model's output, whose text encoder answers with the states."""
        self.model.vmhan.encode_text = lambda *args: states
        return self.model(**batch, **options)

    def train(self, batches: Sequence[tuple[dict[str, Tensor], Tensor]], num_steps: int, seed: int) -> None:
        """AdamW over all but the text encoder, with warmup, at the demonstration's rates."""
        own = [value for name, value in self.model.named_parameters() if "text_encoder." not in name]
        rate, decay = self.run_args.head_learning_rate, self.run_args.weight_decay
        optimizer = torch.optim.AdamW(own, lr=rate, weight_decay=decay)
        schedule = get_linear_schedule_with_warmup(optimizer, num_steps // 10, num_steps)
        rng, order = random.Random(seed), []
        self.model.train()
        for _ in range(num_steps):
            order = order or rng.sample(range(len(batches)), len(batches))
            optimizer.zero_grad()
            self(*batches[order.pop()]).loss.backward()
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def answers(self, batches: Sequence[tuple[dict[str, Tensor], Tensor]]) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities (n, R) of all pairs, and of each the object (n,) of the highest weight; None of no V-HAN of a
        pair.
        """
        self.model.eval()
        config, probabilities, found = self.config, [], []
        finds = config.hypergraph_encoder == "vhan" and config.hypergraph_scope == "pair" and config.num_objects
        for batch, states in batches:
            output = self(batch, states, output_attentions=bool(finds))
            probabilities.append(output.logits.softmax(dim=-1))
            if finds:
                weight = attention_rollout(output.attentions, output.incidence).node_weight  # (P, N)
                first = 3 + config.num_text_phrases  # behind the image
                place = weight[:, first : first + config.num_objects].argmax(dim=1, keepdim=True)
                found.append(batch["pair_objects"].gather(1, place).squeeze(1))
        return torch.cat(probabilities).double().numpy(), torch.cat(found).numpy() if finds else None


def scores(cards: Cards, probabilities: np.ndarray, objects: np.ndarray | None) -> dict[str, Any]:
    """F1, calibration error, and of each kind of evidence and of hidden stickers: pairs, accuracy, mean score."""
    gold = [pair["relation"] for card in cards.cards for pair in card.pairs]
    gold_ids = np.array([POSTCARDS_RELATIONS.index(relation) for relation in gold])
    predicted = probabilities.argmax(axis=1)
    found = {"f1": score(gold, [POSTCARDS_RELATIONS[i] for i in predicted], labels=POSTCARDS_RELATIONS)["f1"]}
    for name, group in cards.groups().items():
        numbers = (predicted == gold_ids)[group].mean(), probabilities.max(axis=1)[group].mean()
        found[name] = dict(zip(("pairs", "accuracy", "score"), (int(group.sum()), *map(float, numbers))))
        if group.any():
            found[name]["ece"] = reliability(probabilities[group], gold_ids[group]).expected_calibration_error
    found["ece"] = reliability(probabilities, gold_ids).expected_calibration_error
    gold_objects = np.array([i for card in cards.cards for i in card.gold_objects])
    if objects is not None and (gold_objects >= 0).any():
        found["attention"] = float((objects == gold_objects)[gold_objects >= 0].mean())
    return found


def measure(dataset: str, rows: Sequence[str], seeds: Sequence[int], steps: int, path: Path) -> None:
    """Adds {row: {seed: `scores` and the ids of the predictions}} of these runs to the file, under the data set."""
    made, train, scored = {}, None, None
    for run in plan_runs(read_sweep(SWEEP), "results", datasets=[dataset], rows=rows, seeds=seeds, flags={}):
        if train is None:
            given = parse_arguments(run.argv())[1].builder_fields()
            config = PostcardsConfig(**given)
            train, scored = Cards(config, "train", NUM_TRAIN), Cards(config, "validation", NUM_SCORED)
        trial = Trial(run.argv(), run.seed)
        if trial.reads not in made:
            shuffled = random.Random(0).sample(train.posts, NUM_TRAIN)
            made[trial.reads] = trial.batches(shuffled, BATCH), trial.batches(scored.posts, 4 * BATCH)
        batches, began = made[trial.reads], time.process_time()
        trial.train(batches[0], steps, run.seed)
        told = {"steps": steps, "processor_seconds": round(time.process_time() - began, 1)}
        probabilities, objects = trial.answers(batches[1])
        told |= scores(scored, probabilities, objects)
        logger.info("%s %s %s: %s", dataset, run.row, run.seed, told)
        record = read_if_there(path)
        record["environment"] = describe_environment()
        told["predicted"] = " ".join(map(str, probabilities.argmax(axis=1)))  # one line of the file
        record.setdefault(dataset, {}).setdefault(run.row, {})[str(run.seed)] = told
        write_json(path, record)


def _predictions(dataset: str, row: str, predicted: str) -> Predictions:
    given = parse_arguments(plan_runs(read_sweep(SWEEP), "results", datasets=[dataset], rows=[row])[0].argv())[1]
    pairs, answers = [], map(int, predicted.split())
    for index in range(NUM_SCORED):
        card = make_postcard(PostcardsConfig(**given.builder_fields()), "validation", index)
        for number, pair in enumerate(card.pairs):
            place = {"split": "validation", "id": str(index), "pair": number, "relation": pair["relation"]}
            pairs.append(place | {"predicted": POSTCARDS_RELATIONS[next(answers)]})
    return Predictions(pairs, POSTCARDS_RELATIONS, POSTCARDS_RELATIONS[0], Path(row))


def table(dataset: str, rows: dict[str, dict[str, Any]]) -> str:
    """A row each: F1, how far behind the first one, on the seeds that both have, and accuracy by kind of evidence, all
    in percent and means of seeds.
    """
    sweep, cells, first = read_sweep(SWEEP), [], next(iter(rows))
    seeds = next(iter(rows.values())).values()
    kinds = [name for name, value in next(iter(seeds)).items() if isinstance(value, dict)]

    def mean(numbers: Any) -> str:
        return percent(statistics.fmean(numbers))

    for row, of_row in rows.items():
        shared, behind = [seed for seed in of_row if seed in rows[first]], ""
        if row != first:
            runs = [[_predictions(dataset, of, rows[of][s]["predicted"]) for s in shared] for of in (first, row)]
            result = paired_test(*runs)
            behind = between(100 * result.low, 100 * result.difference, 100 * result.high, ".1f")
        own = list(of_row.values())
        attention = mean(s["attention"] for s in own) if all("attention" in s for s in own) else ""
        means = [mean(s[kind]["accuracy"] for s in own) for kind in kinds]
        hidden = [mean(s["hidden"]["score"] for s in own), mean(s["ece"] for s in own)]
        f1 = mean(s["f1"] for s in own)
        cells.append([sweep.title(row), str(len(own)), str(own[0]["steps"]), f1, behind, attention, *means, *hidden])
    headings = ["row", "seeds", "steps", "F1", "behind the first by (95 % interval)", "attention", *kinds]
    return markdown_table([*headings, "mean score of hidden", "ECE"], cells)


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    transformers.utils.logging.set_verbosity_error()
    sweep = read_sweep(SWEEP)
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--datasets", nargs="+", choices=sweep.datasets, default=list(sweep.datasets))
    parser.add_argument("--rows", nargs="+", choices=sweep.rows, default=list(sweep.rows))
    parser.add_argument("--seeds", nargs="*", type=int, default=sweep.seeds, help="none: only print what is there")
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--output_dir", type=Path, default=Path("docs/postcards/evidence"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    path = arguments.output_dir / "evidence.json"
    for dataset in arguments.datasets:
        if arguments.seeds:
            measure(dataset, arguments.rows, arguments.seeds, arguments.steps, path)
        if found := read_if_there(path).get(dataset):
            rows = {row: found[row] for row in sweep.rows if row in found}
            print(f"\n{dataset}:\n\n{table(dataset, rows)}\n")


if __name__ == "__main__":
    main()
