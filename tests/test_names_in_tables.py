"""Names, labels and titles may hold anything, and every table and card that is written still says them as they are."""

import json
import re
from dataclasses import replace

import datasets
import numpy as np
import pytest
import yaml
from markdown_cells import tables
from prepare_runs import run

from benchmarks.harness.report import Row as BenchmarkRow
from benchmarks.harness.report import Table
from benchmarks.harness.report import markdown as benchmark_markdown
from datasets_scripts.audit.report import markdown as audit_markdown
from model_cards.cards import model_card, write_model_card
from model_cards.checking import check_card
from model_cards.tables import code, escape, fence, markdown_table, settings_table
from vmhan.evaluation.report.files import LATEX, Report, as_latex, as_markdown
from vmhan.evaluation.report.rows import METRICS, Row
from vmhan.scoring.pictures import draw_confusion
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.score import _page


NASTY = {
    "pipe": "works|for",
    "pipes": "|a||b|",
    "line break": "works\nfor",
    "other line breaks": "a\r\nb\rc\u2028d\x0be",
    "backtick": "a`b",
    "backticks": "``a ` b```",
    "only a backtick": "`",
    "tag": "<script>alert(1)</script>",
    "line break tag": "a<br>b",
    "comment": "<!-- a",
    "link": "[a](https://b.c) ![d](e)",
    "emphasis": "*a* **b** _c_ __d__ ~~e~~",
    "entity": "a &amp; b &#124; c &lt",
    "backslash": "a\\|b\\",
    "mathematics": "$a_1$ & 50 % of #2 {x} ~y^2",
    "mathematics that is none": "$\\foo$ \\$x$",
    "latex": "\\input{/etc/passwd} \\\\[1cm] % nothing",
    "begins like an option": "[a] b",
    "begins with a star": "*a",
    "template": "{{ 7 * 7 }} {% raw %} {# x #}",
    "yaml": "a: b # c",
    "yaml document": "---\na: 1\n---",
    "yaml tag": "!!python/object:os.system",
    "quotes": "\"a\" 'b'",
    "yes": "yes",
    "number": "1e3",
    "fence": "```\n# x\n```",
    "other scripts": "работает_в 王芳 🎉 שלום",
}
WRITTEN_AS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


@pytest.fixture(params=NASTY.values(), ids=NASTY.keys())
def name(request):
    return request.param


def said(text):
    """What a cell says: a line break is one, whichever it was."""
    return WRITTEN_AS.sub("\n", text)


def test_a_cell_and_a_key_are_read_as_they_were(name):
    text = markdown_table([name, code(name)], [[code(name), name], ["", name * 2]])
    assert tables(text) == [[[said(name)] * 2, [said(name)] * 2, ["", said(name) * 2]]]
    assert escape(escape(name)) == escape(name) and "\n" not in escape(name) + code(name)


def test_settings(name):
    ((_, first, second),) = tables(settings_table({name: [1, name]}, {name: 0.5}))
    assert first == [said(name), f"1, {said(name)}"] and second == [said(name), "0.5000"]


def test_a_block_of_code_ends_where_its_text_does(name):
    opened, *lines, closed = fence(f"{name}\n````", "bash").split("\n")
    assert (opened, "\n".join(lines)) == (f"{closed}bash", f"{name}\n````") and closed not in lines


def front_matter(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, flags=re.S)[1])


def test_a_model_card(name, write_run_files, tmp_path):
    folder = tmp_path / "run"
    write_run_files(folder, data={"dataset": name, "dataset_config": name}, **{f"test_{name}": 0.25})
    config = {"id2label": {"0": "None", "1": name}, "custom_pipelines": {"task": {}}, "hyperedges": [name]}
    (folder / "config.json").write_text(json.dumps(config))
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(metadata | {"licence": name, "command": f"x {name}"}))
    repo_id = name.replace("\n", " ").replace("\r", " ")
    card = model_card(folder, repo_id)
    scores, _, settings, training = tables(str(card))
    assert [said(name), "-", "0.2500"] in scores and ["dataset", said(name)] in settings
    assert ["hyperedges", said(name)] in training
    stated = front_matter(str(card))
    assert stated["license"] == name and stated["model-index"][0]["results"][0]["dataset"]["type"] == name
    assert f"\nrepo_id = {json.dumps(repo_id, ensure_ascii=False)}\n" in str(card)
    write_model_card(folder, repo_id=repo_id)
    assert check_card(folder) == []


@pytest.fixture(scope="module")
def data_card(tmp_path_factory):
    """The card of a data set whose relations are all the names, and what loads by it."""
    folder = tmp_path_factory.mktemp("mine") / "mine"
    folder.mkdir()
    labels = ["None", *NASTY.values()]
    rows = [{"text": "Ann met Bob", "pairs": [{"head": "Ann", "tail": "Bob", "relation": label}]} for label in labels]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = run(folder, license="mine | `x`\n<b>", figures=True)
    loaded = datasets.load_dataset(str(output), "jsonl", cache_dir=str(folder / "cache"))["train"]
    return (output / "README.md").read_text(), loaded.features["pairs"].feature["relation"].names


def test_a_data_card(data_card):
    card, names = data_card
    _, relations, columns, inputs = tables(card)
    assert [row[1] for row in relations[1:]] == [said(label) for label in names]
    assert {row[2] for row in relations[1:]} == {"1"} and set(names) == {"None", *NASTY.values()}
    assert ["text", "the sentence as it was written; null where the source gave tokens alone"] in columns
    assert inputs[1][0] == "train.jsonl"
    stated = front_matter(card)
    assert stated["license"] == "mine | `x`\n<b>"


def report_of(name):
    predictions = Predictions.__new__(Predictions)
    object.__setattr__(predictions, "rows", [{"id": "1"}])
    fields = {"seeds": [1], "missing": [], "scores": dict.fromkeys(METRICS, [0.5]), "f1_low": 0.1, "f1_high": 0.9}
    fields |= {"leaks": [name], "inputs": f"text, {name}", "selected": False, "revisions": [name], "differing": [name]}
    full = Row(row="full", title=name, predictions=[predictions], **fields)
    worse = replace(full, row="worse", difference=-0.1, difference_low=-0.2, difference_high=0.1, p=0.5, p_holm=0.5)
    return Report(name, "test", [full, worse], "full", 9, {"worse": name}, [], f"vmhan report {name}")


@pytest.fixture
def report(name, monkeypatch):
    monkeypatch.setattr(Predictions, "__len__", lambda self: 1, raising=False)
    monkeypatch.setattr(Predictions, "groups", ["1"], raising=False)
    return report_of(name)


def test_a_report_in_markdown(name, report):
    text = as_markdown(report)
    ((_, full, worse),) = tables(text)
    assert full[0] == worse[0] == said(name) and full[-2] == f"text, {said(name)}"
    assert text.split("\n")[0] == f"# {escape(name)}, test split"


def test_a_report_in_latex(name, report):
    lines = as_latex(report).split("\n")
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)&", row)) == 10 for row in rows)
    written = {shown: character for character, shown in LATEX_OF.items()}
    for row in rows[1:]:
        title = re.split(r"(?<!\\) & ", row)[0]
        assert title[0] not in "[*"  # which the line break before it would take
        read = re.sub("|".join(map(re.escape, sorted(written, key=len, reverse=True))), lambda m: written[m[0]], title)
        assert read == " ".join(name.split())
    outside = [line for line in lines if line and not line.endswith(r" \\")]
    assert all(
        line.startswith(("%", r"\begin", r"\end", r"\toprule", r"\midrule", r"\bottomrule")) for line in outside
    )


LATEX_OF = {chr(number): shown for number, shown in LATEX.items() if shown != "--"}


def test_scores(name):
    of_all = dict.fromkeys(["accuracy", "precision", "recall", "f1", "f1_low", "f1_high", "macro_f1"], 0.5)
    found = {"pairs": 1, "sentences": 1, "split": "test", "resamples": 9}
    found["scores"] = [{"run": name, "leaky": False, **of_all}]
    found["per_relation"] = [{"relation": name, "support": 3, **of_all}]
    runs, relations = tables(_page(found, with_relations=True))
    assert runs[1][0] == said(name) and relations[1] == [said(name), "50.00", "50.00", "50.00", "3"]


@pytest.mark.parametrize("part", range(4))
def test_a_confusion_matrix(part, tmp_path):
    names = ["None", *list(NASTY.values())[part::4]]
    draw_confusion(tmp_path / "confusion.png", np.eye(len(names)), names, title=" ".join(names))
    assert (tmp_path / "confusion.png").stat().st_size > 5000


def test_an_audit(name):
    view = {"task": "all", "field": name, "aspect": name, "kind": "structure", "accuracy": 0.5, "share": 0.5}
    view |= {"share_interval": (0.1, 0.9), "failed": True, "notable": False}
    check = {"rule": "one", "field": name, "compared": 3, "violations": 1, "failed": True, "example": name}
    split = {"pairs": 1, "groups": 1, "views": [view], "checks": [check, check | {"example": None}]}
    split["baseline"] = {"all": 0.5}
    about = {"name": name, "failed": True, "threshold": 0.1, "marked_leaky": [], "protocol": None}
    views, checks = tables(audit_markdown(about | {"splits": {"test": split}}))
    assert views[1][:2] == [said(name)] * 2 and views[1][-1] == "LEAK"
    assert checks[1] == ["one", said(name), "3", "1", said(name)] and checks[2][-1] == ""


def test_a_benchmark(name):
    rows = {name: BenchmarkRow({name: [1.0, 2.0]}, against=name, work={name: 3})}
    ((heading, row),) = tables(benchmark_markdown(Table(rows)))
    assert row[0] == row[3] == heading[-1] == said(name) and heading[1] == f"{said(name)} ms"
