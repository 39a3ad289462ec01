"""docs/facts.md has the numbers of docs/facts/facts.json, which benchmarks/findings/facts.py wrote."""

import json

import pytest
from paths import ROOT


FOUND = json.loads((ROOT / "docs/facts/facts.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/facts.md").read_text(encoding="utf-8")
COLUMNS = ("f1", "precision", "recall", "mention_f1", "pairs_found", "relation_f1", "none_share")
ROWS = [line for line in PAGE[PAGE.index("<!-- facts -->") :].splitlines() if line.startswith("| ")][2:]


def percent(value):
    return f"{100 * value:.1f}"


@pytest.mark.parametrize(
    ("row", "source"), list(zip(ROWS, FOUND["mentions"], strict=True)), ids=list(FOUND["mentions"])
)
def test_a_row_of_the_table(row, source):
    of = FOUND["mentions"][source]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    shown = [f"{percent(of['mean'][name])} ({percent(of['deviation'][name])})" for name in COLUMNS]
    shown[0] += f", {percent(of['low']['f1'])} to {percent(of['high']['f1'])}"
    assert cells == shown


def test_the_sentences_below_it():
    model, given = (FOUND["mentions"][source]["mean"] for source in ("model", "given"))
    costs = [of["ratios"]["annotated pairs"]["processor"][1] for of in FOUND["cost"].values()]
    for words in (
        f"unrelated, {percent(model['none_share'])} % get one",
        f"5 % do, {percent(model['recall_at_none_share_0.05'])} %",
        f"given it is {percent(given['recall_at_none_share_0.05'])} %",
        f"{min(costs):.2f} to {max(costs):.2f} times",
    ):
        assert words in " ".join(PAGE.split())
