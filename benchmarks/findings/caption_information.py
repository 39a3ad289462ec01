"""How much do captions tell of the relation beyond what a text-only model knows? Bits a pair, on posts it did not see.

    python -m benchmarks.findings.caption_information RUN --data_dir DIR --skipped 3678 --captions llava_next qwen

RUN is a text-only run with weights, trained on the first --skipped posts (`benchmarks.findings.frozen_text`). On the
train posts behind them, pair i of post p gets

    log P(relation) = a log P_text(relation) + b + W e_p + constant

where e_p are the first NUM_COMPONENTS principal components of the caption's sentence embedding. a and b are learned
without captions, too, so that W e_p is all that the caption adds; its L2 penalty, up to "no W at all", is the best of
five folds of posts. The gain is that of the mean log-likelihood on the validation split (a linear lower bound of the
conditional information; Xu et al. 2020, arXiv 2002.10689), with a 95 % interval over posts. As a control each caption
stands with another post.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold
from torch import Tensor
from torch.nn.functional import nll_loss, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.findings.search import mean_interval
from benchmarks.harness.command import about_call, new_parser
from model_cards.files import write_json
from model_cards.tables import markdown_table
from modeling_vmhan import VMHANCollator, VMHANForRelationClassification, VMHANProcessor
from vmhan.training.arguments import parse_arguments
from vmhan.training.posts.data import load_posts
from vmhan.training.text_encoders import OFFLINE_ENCODER, load_text_encoder


__all__ = ["fit", "gain", "main"]

NUM_COMPONENTS, NUM_FOLDS, NUM_CONTROLS, BATCH = 48, 5, 2, 32
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, float("inf"))  # of the sum of W's squares; inf: no W


class Pairs(NamedTuple):
    """n pairs of the posts of a split, in one order."""

    log_probabilities: Tensor  # (n, R), of the text-only model
    labels: Tensor  # (n,)
    post: np.ndarray  # (n,) number of its post in the split


@torch.no_grad()
def text_only(run: Path, posts: Sequence[dict]) -> Pairs:
    """What the run's model says of each pair."""
    model, processor = VMHANForRelationClassification.from_pretrained(run).eval(), VMHANProcessor.from_pretrained(run)
    collate, found, labels = VMHANCollator(processor, model.config.label2id), [], []
    for start in range(0, len(posts), BATCH):
        batch = collate(posts[start : start + BATCH])
        labels.append(batch.pop("labels"))
        found.append(model(**batch).logits.log_softmax(dim=-1))
    post = np.repeat(np.arange(len(posts)), [len(post["pairs"]) for post in posts])
    return Pairs(torch.cat(found).double(), torch.cat(labels), post)


@torch.no_grad()
def sentence_embeddings(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> np.ndarray:
    """Mean states of the words (n, D), of length 1, as sentence-transformers makes them."""
    made = []
    for start in range(0, len(texts), BATCH):
        words = tokenizer(texts[start : start + BATCH], padding=True, truncation=True, max_length=128)
        words = words.convert_to_tensors("pt")
        mask = words["attention_mask"].unsqueeze(-1)
        states = (encoder(**words).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
        made.append(normalize(states, dim=1))
    return torch.cat(made).double().numpy()


def fit(pairs: Pairs, features: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """a (), b (R,) and W (F, R) by L-BFGS; features (n, F) have mean 0 and variance 1."""
    num_labels = pairs.log_probabilities.shape[1]
    scale = torch.ones((), dtype=torch.double, requires_grad=True)
    bias = torch.zeros(num_labels, dtype=torch.double, requires_grad=True)
    weight = torch.zeros(features.shape[1], num_labels, dtype=torch.double, requires_grad=penalty < float("inf"))
    learned = [value for value in (scale, bias, weight) if value.requires_grad]
    optimizer = torch.optim.LBFGS(learned, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nll_loss(_predict(pairs, features, (scale, bias, weight)), pairs.labels)
        value = value + 1e-4 * bias.square().sum() + (penalty * weight.square().sum() if weight.requires_grad else 0)
        value.backward()
        return value

    optimizer.step(loss)
    return scale.detach(), bias.detach(), weight.detach()


def _predict(pairs: Pairs, features: Tensor, learned: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    scale, bias, weight = learned
    return (scale * pairs.log_probabilities + bias + features @ weight).log_softmax(dim=-1)


def _bits(pairs: Pairs, features: Tensor, learned: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(n,) bits that the true relations cost."""
    return nll_loss(_predict(pairs, features, learned), pairs.labels, reduction="none") / np.log(2)


def gain(train: Pairs, scored: Pairs, of_train: np.ndarray, of_scored: np.ndarray) -> tuple[float, np.ndarray]:
    """The penalty that is best on folds of the train posts, and the bits (n,) that captions save of the scored pairs.

    of_train and of_scored are embeddings of the posts' captions, (posts, D).
    """
    components = PCA(NUM_COMPONENTS, whiten=True, random_state=0).fit(of_train)
    features = [
        torch.from_numpy(components.transform(of)[pairs.post])
        for pairs, of in ((train, of_train), (scored, of_scored))
    ]
    costs = dict.fromkeys(PENALTIES, 0.0)
    for inside, outside in GroupKFold(NUM_FOLDS).split(train.post, groups=train.post):
        a, b = (Pairs(*(array[index] for array in train)) for index in (inside, outside))
        for penalty in PENALTIES:
            learned = fit(a, features[0][inside], penalty)
            costs[penalty] += float(_bits(b, features[0][outside], learned).sum())
    best = min(costs, key=costs.get)
    without, with_captions = (_bits(scored, features[1], fit(train, features[0], p)) for p in (float("inf"), best))
    return best, (without - with_captions).numpy()


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    transformers.utils.logging.set_verbosity_error()
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--dataset", default="mnre_order_blind")
    parser.add_argument("--captions", nargs="+", default=["llava_next"])
    parser.add_argument("--skipped", type=int, required=True)
    parser.add_argument("--output_dir", type=Path, default=Path("docs/mnre/caption_information"))
    arguments = parser.parse_args(argv)
    made, embeddings = {}, {}
    encoder, tokenizer = load_text_encoder(OFFLINE_ENCODER)
    for name in arguments.captions:
        asked = ["--dataset", arguments.dataset, "--data_dir", arguments.data_dir, "--captions", name]
        _, data_args, run_args = parse_arguments(
            [*asked, "--output_dir", str(arguments.output_dir), "--use_cpu", "true"]
        )
        posts = load_posts(data_args, run_args)
        splits = [posts["train"].skip(arguments.skipped).to_list(), posts["validation"].to_list()]
        made = made or [text_only(arguments.run, split) for split in splits]
        texts = [[post["caption"] or "" for post in split] for split in splits]
        embeddings[name] = [sentence_embeddings(encoder.eval(), tokenizer, of_split) for of_split in texts]
    if len(embeddings) > 1:
        embeddings["all"] = [np.concatenate(parts, axis=1) for parts in zip(*embeddings.values(), strict=True)]
    train, scored = made
    nothing = torch.zeros(len(scored.labels), 1, dtype=torch.double)
    empty = torch.zeros(len(train.labels), 1, dtype=torch.double)
    cost = float(_bits(scored, nothing, fit(train, empty, float("inf"))).mean())
    record = about_call(__spec__.name, argv, pairs=len(scored.labels), bits_without=cost, captions={})
    cells = []
    for name, (of_train, of_scored) in embeddings.items():
        for seed in range(1 + NUM_CONTROLS):
            rng = np.random.default_rng(seed)
            mixed = [of if seed == 0 else of[rng.permutation(len(of))] for of in (of_train, of_scored)]
            penalty, saved = gain(train, scored, *mixed)
            whose = f"{name}, of other posts {seed}" if seed else name
            found = dict(zip(("bits", "low", "high"), mean_interval(saved, scored.post), strict=True))
            record["captions"][whose] = found | {"penalty": penalty if np.isfinite(penalty) else None}
            cells.append([whose, "{bits:.4f} ({low:.4f} to {high:.4f})".format(**found), str(penalty)])
            logging.info("%s", cells[-1])
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output_dir / "information.json", record)
    print(f"{cost:.3f} bits a pair without captions, {record['pairs']} pairs\n")
    print(markdown_table(["captions", "bits saved a pair (95 % interval)", "penalty"], cells))


if __name__ == "__main__":
    main()
