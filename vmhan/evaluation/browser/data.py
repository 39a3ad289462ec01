"""What the error browser shows of a run: its wrong pairs, the posts they are of, and where the model looked.

The posts are those of the data arguments in run.json, loaded as the run loaded them; rows and posts are matched by the
post's id and the pair's number, and any difference between them is an error: it would show the wrong sentence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
from tqdm.auto import tqdm

from model_cards.run_metadata import RunMetadata


__all__ = ["KINDS", "WrongPair", "explain", "load_posts_of", "locate", "why_no_attention", "wrong_pairs"]

logger = logging.getLogger(__name__)

# What can be wrong with an answer, as the page calls it.
KINDS = {"spurious": "none → relation", "missed": "relation → none", "confused": "relation → relation"}
FEATURE_COLUMNS = ("image_features", "object_features")
ROW_FIELDS = ("head", "tail", "score", "probabilities")  # beside those that every predictions.jsonl has
PAIR_FACTS = ("head", "tail", "relation", "head_span", "tail_span", "tail_object")  # which posts and rows share
SCORE_TOLERANCE = 0.02  # between a saved score and the one that the weights give here (other device, precision)

Row = dict[str, Any]


@dataclass
class WrongPair:
    """A row of predictions.jsonl whose relation is not the gold one, and what belongs to it.

    Attributes:
        row: of predictions.jsonl. kind: a key of KINDS.
        post: the row's post as in the data set; None where the data set was not opened.
        explanation: {nodes, hyperedges} of `modeling_vmhan.explanation.explain_pair`; None where it was not asked for.
    """

    row: Row
    kind: str
    post: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None


def wrong_pairs(rows: Sequence[Row], none_label: str) -> list[WrongPair]:
    """The wrong rows, the one with the highest calibrated probability of its wrong relation first.

    Raises:
        ValueError: rows without mentions or probabilities.
    """
    for row in rows:
        if missing := [name for name in ROW_FIELDS if name not in row]:
            raise ValueError(
                f"predictions.jsonl, post {row['id']!r}, pair {row['pair']}: expected the fields {list(ROW_FIELDS)}, "
                f"received none named {missing}. Make the file with run_mmre.py."
            )

    def kind_of(row: Row) -> str:
        if none_label in (row["relation"], row["predicted"]):
            return "spurious" if row["relation"] == none_label else "missed"
        return "confused"

    wrong = [WrongPair(row, kind_of(row)) for row in rows if row["relation"] != row["predicted"]]
    return sorted(wrong, key=lambda pair: -pair.row["score"])


def load_posts_of(
    facts: RunMetadata,
    split: str,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    cache_dir: str | None = None,
    features: bool = True,
) -> datasets.Dataset:
    """The posts of a split, by run.json's data arguments and the local folders that it does not tell.

    Args:
        dataset: instead of the run's; for one that was a folder, of which run.json keeps the name only.
        data_dir, cache_dir: as run_mmre.py was given them.
        features: whether the visual features are needed, which only a model looks at.

    Raises:
        ValueError: data arguments that this version does not know; no such split; whatever the builder finds wrong.
        OSError: files that cannot be read.
    """
    # The one place that knows where the training script keeps its parts.
    from vmhan.training.arguments import DataArguments, RunArguments
    from vmhan.training.data import load_posts

    given = dict(facts.run.get("data", {}))
    unknown = sorted(set(given) - {field.name for field in fields(DataArguments)})
    if unknown:
        raise ValueError(
            f"run.json has the data arguments {unknown}, which this version of run_mmre.py does not know. Use the "
            "version that made the run, or pass --show predictions."
        )
    local = {"dataset": dataset, "data_dir": data_dir, "cache_dir": cache_dir}
    given |= {name: value for name, value in local.items() if value is not None}
    if not features:
        given.pop("features", None)
    posts = load_posts(DataArguments(**given), RunArguments(output_dir="unused", do_train=False, use_cpu=True))
    if split not in posts:
        raise ValueError(f"split: expected one of the data set's, {list(posts)}, received {split!r}.")
    if not features:
        posts = posts.remove_columns([name for name in FEATURE_COLUMNS if name in posts[split].column_names])
    return posts[split]


def locate(rows: Sequence[Row], posts: datasets.Dataset) -> dict[str, int]:
    """Position of each post by its id, once every row is known to be a pair of these posts and the other way round.

    Raises:
        ValueError: a row without its pair, a pair without its row, other words, or another gold relation.
    """
    names = posts.features["pairs"].feature["relation"].names
    positions, expected = {}, {}
    for position, post in enumerate(posts.select_columns(["id", "tokens", "pairs"])):
        positions[post["id"]] = position
        for number, pair in enumerate(post["pairs"]):
            expected[post["id"], number] = _facts_of(post, pair, names)
    advice = (
        "These are not the posts that the predictions were made on: give the run's --dataset, --data_dir and "
        "--cache_dir, or pass --show predictions."
    )
    for row in rows:
        found = expected.pop((row["id"], row["pair"]), None)
        saved = {name: row[name] for name in PAIR_FACTS if name in row}  # older files have no spans
        there = found and {name: found[name] for name in saved}
        if there != saved:
            name, there = f"post {row['id']!r}, pair {row['pair']}", there or "no such pair"
            raise ValueError(f"{name}: predictions.jsonl has {saved}, the data set has {there}. {advice}")
    if expected:
        first = next(iter(expected))
        raise ValueError(f"predictions.jsonl lacks {len(expected)} pairs of the data set, {first} first. {advice}")
    return positions


def _facts_of(post: dict[str, Any], pair: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """PAIR_FACTS, as run_mmre.py writes them."""
    head, tail = list(pair["head"]), list(pair["tail"] or [])
    words = (_words(post, head), _words(post, tail) if tail else "[object]", names[pair["relation"]])
    return dict(zip(PAIR_FACTS, (*words, head, tail or None, pair["tail_object"]), strict=True))


def _words(post: dict[str, Any], span: Sequence[int]) -> str:
    return " ".join(post["tokens"][slice(*span)])


def why_no_attention(folder: Path, facts: RunMetadata) -> str | None:
    """None, or the reason why no attention can be shown for this run, and how to get it."""
    if not list(folder.glob("model*.safetensors")):
        return (
            "No attention: the run's folder has no weights (model.safetensors). Train it again with the command above "
            "and ask for this report before they are deleted."
        )
    kind = facts.config.get("model_type"), facts.config.get("hypergraph_encoder", "vhan")
    if kind != ("vmhan", "vhan"):
        return f"No attention: the model ({' with encoder '.join(map(str, kind))}) has no hyperedge attention to show."
    return None


def explain(folder: Path, pairs: Sequence[WrongPair]) -> list[str]:
    """Ask the run's weights about the posts of `pairs` and fill in their `explanation`.

    Returns:
        notes for the reader: [], or that the weights no longer give the saved predictions.
    """
    import transformers

    from modeling_vmhan.pipeline_vmhan import TASK

    pipe = transformers.pipeline(TASK, model=str(folder))
    posts = {pair.row["id"]: pair.post for pair in pairs}
    answers = pipe(iter(posts.values()), explain=True, num_samples=1, batch_size=4)
    progress = tqdm(answers, total=len(posts), desc="attention", unit="post")
    answered = dict(zip(posts, progress, strict=True))
    differing = 0
    for pair in pairs:
        answer = answered[pair.row["id"]][pair.row["pair"]]
        pair.explanation = answer["explanation"]
        same = answer["relation"] == pair.row["predicted"]
        differing += not same or abs(answer["score"] - pair.row["score"]) > SCORE_TOLERANCE
    if not differing:
        return []
    return [
        f"The weights in the run's folder give other answers than predictions.jsonl for {differing} of {len(pairs)} "
        "pairs: they or the features were changed since. The attention shown is theirs."
    ]
