"""How good are the facts that models find in raw posts, and what does a raw post cost against given pairs?

    python -m benchmarks.findings.facts RUN... --data_dir DIR --mentions model given spacy:en_core_web_sm --rounds 5

The RUNs are folders of `vmhan train`, seeds of one system, whose data are built again as their run.json says; each of
them is asked about every post of the split without its pairs, once for each way to get the mentions: "model" is the
model's own head, "given" all mentions of the post's pairs, anything else a name that `vmhan predict --mentions` takes.
Scores are those of vmhan/scoring/facts.py. Writes facts.json, and answers/MENTIONS/N.jsonl with spans, relations and
scores, no text: files that are given in place of folders are scored again.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import transformers

from benchmarks.harness.cells import between, percent
from benchmarks.harness.command import about_call, new_parser
from benchmarks.harness.posts import spread_over_lengths, text_alone
from benchmarks.harness.timing import ratio, take_turns
from model_cards.files import write_json
from model_cards.run_metadata import read_metadata
from model_cards.tables import markdown_table
from modeling_vmhan.mentions import Mention
from modeling_vmhan.posts import sentence_of
from modeling_vmhan.questions import read_question
from modeling_vmhan.registration import TASK
from modeling_vmhan.words import tokens_of_span
from vmhan.evaluation.run_posts import load_run_posts
from vmhan.inference.mention_finders import find_mention_finder
from vmhan.scoring.facts import (
    RATIOS,
    CurvePoint,
    PostFacts,
    count_facts,
    fact_curve,
    fact_scores,
    intervals,
    read_facts,
    thinned,
    write_facts,
)
from vmhan.scoring.predictions import read_predictions
from vmhan.training.measures.raw_posts import FEATURES, Pipe, Question, ask, named_pairs, raw_question, scored_posts


__all__ = ["answer", "cost", "in_tokens", "main", "measure", "own_mentions", "table"]

OWN, GIVEN = "model", "given"
LEAST_RECALL, MOST_NONE = 0.6, 0.05
TIMED = 64  # posts, spread over the lengths


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ValueError or OSError for a run or a file that cannot be read."""
    arguments = _parse(argv)
    files = [run for run in arguments.runs if run.is_file()]
    if files and len(files) < len(arguments.runs):
        raise ValueError(f"RUN: expected folders or files of answers, received both: {list(map(str, arguments.runs))}")
    found: dict[str, dict[str, list[PostFacts]]] = {}
    times = {}
    if files:
        found["answers"] = {str(path): read_facts(path) for path in files}
    for number, run in enumerate([] if files else arguments.runs):
        pipe, posts = load_run(run, arguments)
        for source in arguments.mentions:
            answers = answer(pipe, posts, source, batch_size=arguments.batch_size, **arguments.options)
            path = arguments.output_dir / "answers" / source.replace("/", "_").replace(":", "_") / f"{number}.jsonl"
            write_facts(path, answers)
            found.setdefault(source, {})[str(run)] = answers
        if arguments.rounds:
            times[str(run)] = cost(pipe, posts, arguments.rounds, batch_size=arguments.batch_size)
    report = measure(found, resamples=arguments.resamples)
    about = about_call(__spec__.name, argv, split=arguments.split, resamples=arguments.resamples)
    write_json(arguments.output_dir / "facts.json", {"about": about, "mentions": report, "cost": times})
    print(table(report), *(f"{run}: {_shown_cost(of)}" for run, of in times.items()), sep="\n\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of one system's seeds, or answers")
    parser.add_argument("--data_dir", help="folder of the data set's files")
    parser.add_argument("--split", default="validation", help="which posts (default validation)")
    parser.add_argument("--mentions", nargs="+", default=[OWN, GIVEN], help="model, given, or names of finders")
    parser.add_argument("--options", type=json.loads, default={}, help="of the pipeline, as JSON (min_score, ...)")
    parser.add_argument("--batch_size", type=int, default=16, help="posts in one pass (default 16)")
    parser.add_argument("--max_samples", type=int, help="at most so many posts, for a try")
    parser.add_argument("--rounds", type=int, default=0, help="of timing raw posts against given pairs (default none)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the intervals' bootstrap over posts")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/facts"), help="where the results go")
    return parser.parse_args(argv)


def load_run(run: Path, arguments: argparse.Namespace) -> tuple[transformers.Pipeline, datasets.Dataset]:
    """The pipeline of a run's folder, and the posts of the split as the run had them."""
    pipe = transformers.pipeline(TASK, model=str(run))
    config = pipe.model.config
    without = () if config.visual_feature_size and config.vision_encoder is None else ("features",)
    rows = read_predictions(run).split(arguments.split).rows
    local = {"data_dir": arguments.data_dir}
    posts = load_run_posts(read_metadata(run).run["data"], rows, local=local, without=without)
    return pipe, posts if arguments.max_samples is None else posts.take(arguments.max_samples)


def answer(pipe: Pipe, posts: datasets.Dataset, source: str, **options: Any) -> list[PostFacts]:
    """Annotations and answers of each post, whose mentions come from `source`; `options` are the pipeline's."""
    questions = [raw_question(post, pipe.model.config) for post in posts]
    pairs = named_pairs(posts)
    if source == OWN:
        mentions = [in_tokens(own_mentions(pipe, question), question) for question in questions]
    elif source == GIVEN:
        mentions = [_mentions(of) for of in pairs]
        questions = [{**question, "mentions": of} for question, of in zip(questions, mentions, strict=True)]
    else:
        options["mentions"] = finder = find_mention_finder(source)
        mentions = [in_tokens(finder(sentence_of(question)[0]), question) for question in questions]
    return scored_posts(pipe, questions, pairs, mentions, source, **options)


def _mentions(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """All that the post's pairs join, in text order."""
    return sorted({tuple(pair[role]) for pair in pairs for role in ("head", "tail") if pair[role]})


def own_mentions(pipe: Pipe, question: Question) -> list[Mention]:
    """What the model's head finds in a post, those that are in no pair included."""
    text = {name: value for name, value in question.items() if name not in ("image", "boxes", *FEATURES)}
    sentence = pipe.processor.encode_sentence(read_question(text, open_image=None).post, question["id"])
    found, _ = pipe.model.find_mentions([sentence], **pipe.processor.collate_rows([sentence]).to(pipe.device))
    return found[0]


def in_tokens(mentions: Sequence[Mention], question: Question) -> list[tuple[int, int]]:
    """The mentions as spans of the tokens that they touch."""
    _, units = sentence_of(question)
    spans = [tokens_of_span((mention.start, mention.end), units) for mention in mentions]
    return [span for span in spans if span is not None]


def measure(found: Mapping[str, Mapping[str, list[PostFacts]]], *, resamples: int = 1000) -> dict[str, Any]:
    """{mentions: {"runs": {run: scores, operating points and curve}, "mean", "deviation", "low", "high"}}.

    ValueError for runs on different posts.
    """
    report = {}
    for source, runs in found.items():
        _check_same(runs)
        counts = [count_facts(posts) for posts in runs.values()]
        of_runs = {}
        for run, posts, of in zip(runs, runs.values(), counts, strict=True):
            curve = fact_curve(posts)
            scores = {"posts": len(posts), **fact_scores(of), **operating_points(curve)}
            of_runs[run] = {**scores, "curve": [point._asdict() for point in thinned(curve)]}
        ends = intervals(counts, resamples=resamples)
        report[source] = {
            "runs": of_runs,
            **{name: _over_runs(of_runs.values(), of) for name, of in OVER_RUNS.items()},
            "low": {name: interval.low for name, interval in ends.items()},
            "high": {name: interval.high for name, interval in ends.items()},
        }
    return report


OVER_RUNS = {"mean": statistics.fmean, "deviation": lambda values: statistics.stdev(values) if values[1:] else 0.0}


def _over_runs(runs: Any, of: Callable[[list[float]], float]) -> dict[str, float | None]:
    """Of each score one number over the runs; None where a run has none."""
    columns = {name: [run[name] for run in runs] for name in (*RATIOS, *operating_points([]))}
    return {name: None if None in values else of(values) for name, values in columns.items()}


def operating_points(curve: Sequence[CurvePoint]) -> dict[str, float | None]:
    """The best recall while at most 5 % of the None pairs have a fact, and the least share of the None pairs that have
    one at a recall of 60 % or more: None where the recall is never as high.
    """
    few = [point.recall for point in curve if point.none_share <= MOST_NONE]
    many = [point.none_share for point in curve if point.recall >= LEAST_RECALL]
    return {"recall_at_none_share_0.05": max(few, default=0.0), "none_share_at_recall_0.6": min(many, default=None)}


def _check_same(runs: Mapping[str, list[PostFacts]]) -> None:
    first = next(iter(runs))
    for run, posts in runs.items():
        if [(post.id, post.gold) for post in posts] != [(post.id, post.gold) for post in runs[first]]:
            raise ValueError(f"RUN: expected seeds on the same posts, received others in {first} than in {run}.")


def cost(pipe: Pipe, posts: datasets.Dataset, rounds: int, *, batch_size: int) -> dict[str, Any]:
    """Seconds a round of raw posts, of the same posts with the pairs that are asked in them given, and with those that
    are annotated; the ratios are of the first to each, taken within a round, as (quartile, median, quartile).
    """
    chosen = posts.select(
        spread_over_lengths([len(post["tokens"]) for post in posts], batch_size, TIMED // batch_size)
    )
    raw = [raw_question(post, pipe.model.config) for post in chosen]
    asked = [_pairs_of(facts) for facts in ask(pipe, raw, "pairs", batch_size=batch_size, all_pairs=True)]
    annotated = [text_alone(post)["pairs"] for post in chosen]
    kept = [i for i, pairs in enumerate(asked) if pairs]  # a post without pairs is no question with pairs
    questions = {
        "raw": [raw[i] for i in kept],
        "same pairs": [{**raw[i], "pairs": asked[i]} for i in kept],
        "annotated pairs": [{**raw[i], "pairs": annotated[i]} for i in kept],
    }
    turns = {name: [partial(pipe, of, batch_size=batch_size)] for name, of in questions.items()}
    times = take_turns(turns, rounds, device=str(pipe.device))
    work = {name: sum(len(of.get("pairs", ())) for of in asked_of) for name, asked_of in questions.items()}
    ratios = {
        name: {clock: ratio(times["raw"][clock], times[name][clock]) for clock in times[name]}
        for name in ("same pairs", "annotated pairs")
    }
    return {"posts": len(kept), "pairs": work | {"raw": work["same pairs"]}, "seconds": times, "ratios": ratios}


def _pairs_of(facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"head": tuple(fact["head_span"]), "tail": tuple(fact["tail_span"])} for fact in facts]


def table(report: Mapping[str, Mapping[str, Any]]) -> str:
    """In per cent: a row a run, and where there are several one with their mean and standard deviation in brackets.

    Each way to get the mentions has the 95 % interval of F1 in its last row.
    """
    cells = []
    for source, of in report.items():
        names = list(of["runs"])
        rows = [(name, of["runs"][name], {}) for name in names]
        rows += [(f"mean of {len(names)}", of["mean"], of["deviation"])] if len(names) > 1 else []
        for place, (name, scores, deviations) in enumerate(rows, start=1):
            shown = [percent(scores[key], deviations.get(key)) for key in SHOWN]
            ends = f"{percent(of['low']['f1'])} to {percent(of['high']['f1'])}" if place == len(rows) else ""
            cells.append([source, name, *shown, ends])
    return markdown_table(["mentions", "run", *SHOWN.values(), "95 % interval of F1"], cells)


SHOWN = {
    "f1": "strict F1",
    "precision": "precision",
    "recall": "recall",
    "mention_precision": "mentions: precision",
    "mention_recall": "mentions: recall",
    "mention_f1": "mentions: F1",
    "pairs_found": "positive pairs found",
    "relation_f1": "relations: F1 on found pairs",
    "none_share": "None pairs with a fact",
    "none_share_of_found": "of those found",
    "recall_at_none_share_0.05": "recall at 5 % of None pairs",
    "none_share_at_recall_0.6": "None pairs at 60 % recall",
}


def _shown_cost(of: Mapping[str, Any]) -> str:
    parts = []
    for name, clocks in of["ratios"].items():
        parts.append(f"{between(*clocks['processor'], '.2f')} times the same posts with the {name} given")
    counts = ", ".join(f"{count} {name}" for name, count in of["pairs"].items())
    return f"raw posts take {' and '.join(parts)} (processor time; {of['posts']} posts; pairs: {counts})"


if __name__ == "__main__":
    main()
