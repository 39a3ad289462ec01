"""What the error browser shows of a run: its wrong pairs, the posts they are of, and where the model looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from model_cards.run_metadata import RunMetadata


__all__ = ["KINDS", "WrongPair", "explain", "why_no_attention", "wrong_pairs"]

# What can be wrong with an answer, as the page calls it.
KINDS = {"spurious": "none → relation", "missed": "relation → none", "confused": "relation → relation"}
ROW_FIELDS = ("head", "tail", "score", "probabilities")  # beside those that every predictions.jsonl has
SCORE_TOLERANCE = 0.02  # between a saved score and the one that the weights give here (other device, precision)

Row = dict[str, Any]


@dataclass
class WrongPair:
    """A row of predictions.jsonl whose relation is not the gold one, and what belongs to it."""

    row: Row  # of predictions.jsonl
    kind: str  # a key of KINDS
    post: dict[str, Any] | None = None  # as in the data set; None where that was not opened
    explanation: dict[str, Any] | None = None  # {nodes, hyperedges} of `explain_pair`; None where not asked for


def wrong_pairs(rows: Sequence[Row], none_label: str) -> list[WrongPair]:
    """The wrong rows, the surest wrong answer first; ValueError for rows without mentions or probabilities."""
    pairs = []
    for row in rows:
        if missing := [name for name in ROW_FIELDS if name not in row]:
            raise ValueError(f"predictions.jsonl, post {row['id']!r}, pair {row['pair']}: the fields {missing} miss.")
        if row["relation"] != row["predicted"]:
            kind = "spurious" if row["relation"] == none_label else "confused"
            pairs.append(WrongPair(row, "missed" if row["predicted"] == none_label else kind))
    return sorted(pairs, key=lambda pair: -pair.row["score"])


def why_no_attention(folder: Path, metadata: RunMetadata) -> str | None:
    """None, or the reason why no attention can be shown for this run, and how to get it."""
    if not list(folder.glob("model*.safetensors")):
        return "No attention: the run's folder has no weights (model.safetensors). Train it again and keep them."
    kind = metadata.config.get("model_type"), metadata.config.get("hypergraph_encoder", "vhan")
    if kind != ("vmhan", "vhan"):
        return f"No attention: the model ({' with encoder '.join(map(str, kind))}) has no hyperedge attention to show."
    return None


def explain(folder: Path, pairs: Sequence[WrongPair]) -> list[str]:
    """Fill in where the run's weights look in `pairs`; returns a note if their answers are not the saved ones."""
    import transformers

    from modeling_vmhan.registration import TASK

    pipe = transformers.pipeline(TASK, model=str(folder))
    posts = {pair.row["id"]: pair.post for pair in pairs}
    answers = pipe(iter(posts.values()), explain=True, batch_size=4)
    answered = dict(zip(posts, tqdm(answers, total=len(posts), desc="attention", unit="post"), strict=True))
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
