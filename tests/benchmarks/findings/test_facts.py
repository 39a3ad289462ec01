"""The benchmark of facts with a pipeline by rule: what is asked and written, and that files are scored again."""

import json
from types import SimpleNamespace

import pytest
from datasets import ClassLabel as Label
from datasets import Dataset, Features, List, Value
from transformers import BatchFeature

from benchmarks.findings import facts
from modeling_vmhan.mentions import Mention
from vmhan.scoring.facts import CurvePoint


LABELS = ["home", "None", "peer", "home (inverse)"]


class RulePipe:
    """Mentions are the words with a capital, two that follow each other are peers (0.9), others not related."""

    device = "cpu"

    def __init__(self):
        names = {"labels": LABELS, "none_label": "None", "order_blind": True, "vision_encoder": None}
        self.model = SimpleNamespace(config=SimpleNamespace(**names))
        self.model.find_mentions = lambda posts, words: ([self.capitals(post["tokens"]) for post in posts], None)
        self.processor = SimpleNamespace(encode_sentence=lambda post, name: post)
        self.processor.collate_rows = lambda posts: BatchFeature({"words": [post["tokens"] for post in posts]})
        self.asked = []

    def capitals(self, tokens):
        starts = [sum(map(len, tokens[:i])) + i for i in range(len(tokens))]
        return [Mention(start, start + len(of)) for start, of in zip(starts, tokens) if of[0].isupper()]

    def __call__(self, questions, *, batch_size, all_pairs=False, mentions=None):
        questions = list(questions)
        self.asked += questions
        return ([*self.answer(question, all_pairs, mentions)] for question in questions)

    def answer(self, question, all_pairs, finder):
        found = finder(" ".join(question["tokens"])) if finder else self.capitals(question["tokens"])
        spans = question.get("mentions") or facts.in_tokens(found, question)
        for head, tail in zip(spans, spans[1:]):
            yield {"head_span": head, "tail_span": tail, "relation": "peer", "score": 0.9}
        for head, tail in zip(spans, spans[2:]) if all_pairs else ():
            yield {"head_span": head, "tail_span": tail, "relation": "None", "score": 0.8}


@pytest.fixture
def posts():
    span = List(Value("int64"))
    pair = {"head": span, "tail": span, "relation": Label(names=LABELS)}
    texts = ["Ann met Bob", "Ann saw oslo and Bob", "ann slept in Oslo near Rome"]
    pairs = [[(0, 2, "peer")], [(0, 2, "home"), (0, 4, "None")], [(0, 3, "None")]]
    rows = [
        {
            "id": str(i),
            "tokens": text.split(),
            "pairs": [{"head": [h], "tail": [t], "relation": name} for h, t, name in of],
        }
        for i, (text, of) in enumerate(zip(texts, pairs, strict=True))
    ]
    for row in rows:
        for of in row["pairs"]:
            of |= {role: [*of[role], of[role][0] + 1] for role in ("head", "tail")}
    return Dataset.from_list(rows, features=Features(id=Value("string"), tokens=List(Value("string")), pairs=[pair]))


@pytest.fixture
def run(posts, tmp_path, monkeypatch):
    pipe = RulePipe()
    monkeypatch.setattr(facts, "load_run", lambda folder, arguments: (pipe, posts))
    monkeypatch.setattr(facts, "find_mention_finder", lambda name: lambda text: [Mention(0, 3), Mention(8, 11)])

    def run(*arguments):
        facts.main([*map(str, arguments), "--output_dir", str(tmp_path), "--resamples", "20"])
        return json.loads((tmp_path / "facts.json").read_text()), pipe

    return run


def test_each_way_to_get_mentions_is_scored(run, tmp_path, capsys):
    report, pipe = run("a", "b", "--mentions", "model", "given", "spacy:x")
    scores = {source: of["mean"] for source, of in report["mentions"].items()}
    # found: Ann-Bob right, Ann-Bob of the second post a None pair, Oslo-Rome not annotated; Ann-oslo not found
    assert scores["model"]["f1"] == pytest.approx(2 / (3 + 2))
    assert (scores["model"]["pairs_found"], scores["model"]["none_share"]) == (1 / 2, 1 / 2)
    assert scores["model"]["mention_f1"] == pytest.approx(2 * 5 / (6 + 7))
    # given: Ann-Bob right, Ann-oslo another relation, oslo-Bob not annotated, ann-Oslo a None pair
    assert scores["given"]["f1"] == pytest.approx(2 / (4 + 2)) and scores["given"]["mention_f1"] == 1
    assert scores["given"]["relation_f1"] == pytest.approx(2 / (3 + 2))
    # characters [0, 3) and [8, 11) of each post touch Ann and Bob, Ann and oslo, ann and "slept in"
    assert (scores["spacy:x"]["f1"], scores["spacy:x"]["mention_recall"]) == pytest.approx((2 / (3 + 2), 5 / 7))
    assert all("pairs" not in question and set(question) <= {"id", "tokens", "mentions"} for question in pipe.asked)
    of_model = report["mentions"]["model"]
    assert of_model["deviation"]["f1"] == 0 and list(of_model["runs"]) == ["a", "b"]
    assert "mean of 2" in capsys.readouterr().out


def test_answers_are_scored_again(run, tmp_path):
    before, _ = run("a", "--mentions", "given")
    after, _ = run(tmp_path / "answers" / "given" / "0.jsonl")
    assert after["mentions"]["answers"]["mean"] == before["mentions"]["given"]["mean"]
    assert "Ann" not in (tmp_path / "answers" / "given" / "0.jsonl").read_text()


def test_cost_is_a_ratio_within_rounds(run, capsys):
    report, pipe = run("a", "--mentions", "given", "--rounds", "2")
    cost = report["cost"]["a"]
    assert cost["pairs"] == {"raw": 3, "same pairs": 3, "annotated pairs": 4}
    assert set(cost["ratios"]) == {"same pairs", "annotated pairs"}
    assert [len(of["pairs"]) for of in pipe.asked if "pairs" in of]


def test_folders_and_files_are_not_mixed(run, tmp_path):
    run("a", "--mentions", "given")
    with pytest.raises(ValueError, match="RUN.*both"):
        run(tmp_path / "answers" / "given" / "0.jsonl", "a")


def test_seeds_are_of_the_same_posts(posts):
    answers = facts.answer(RulePipe(), posts, "given", batch_size=2)
    with pytest.raises(ValueError, match="RUN.*b"):
        facts.measure({"given": {"a": answers, "b": answers[:2]}})


def test_operating_points():
    points = [CurvePoint(0.9, 1, 0.3, 0.0, 0.0), CurvePoint(0.5, 1, 0.5, 0.05, 0.1), CurvePoint(0.1, 1, 0.7, 0.2, 0.3)]
    few, many = facts.operating_points(points).values()
    assert (few, many) == (0.5, 0.2)
    assert list(facts.operating_points(points[:2]).values()) == [0.5, None]
