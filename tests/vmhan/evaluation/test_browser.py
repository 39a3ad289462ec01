"""The error browser (evaluation/browser*): what it tells of a tiny run, what it refuses, its page in Chromium."""

import html.parser
import json
import shutil
from pathlib import Path

import pytest
from chromium import requested_urls, start_chromium
from PIL import Image

from model_cards.run_metadata import read_metadata
from vmhan import cli
from vmhan.evaluation.browser.data import WrongPair, explain, why_no_attention, wrong_pairs
from vmhan.evaluation.browser.page import card_of, heat_map, render
from vmhan.evaluation.run_posts import load_run_posts
from vmhan.scoring.predictions import Predictions, read_predictions


RELATIONS = ["None", "peer", "member_of"]
EVIL = "<script>document.title = 'run'</script>\"'><img src=x onerror=\"document.title = 'run'\">"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text of the cards' sentences."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.sentences = [], None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if attributes.get("class") == "sentence":
            self.open = []

    def handle_endtag(self, tag):
        if tag == "p" and self.open is not None:
            self.sentences.append(" ".join("".join(self.open).split()))
            self.open = None

    def handle_data(self, data):
        if self.open is not None:
            self.open.append(data)

    def of_class(self, name):
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


@pytest.fixture
def browse(run_postcards, tmp_path):
    """`browse(run, *flags)` -> (exit code, text of the page)."""

    def run_command(folder, *flags):
        report, cache_dir = tmp_path / "report.html", run_postcards.cache_dir
        code = cli.main(["browse", str(folder), "--cache_dir", cache_dir, "--output", str(report), *flags])
        return code, report.read_text() if report.exists() else ""

    return run_command


@pytest.fixture
def changed(finished_run, tmp_path):
    """A copy of the run's folder without weights: `change(rows)` are its predictions, `data` its data arguments."""

    def copy(change=lambda rows: rows, data=None):
        folder = tmp_path / "changed"
        shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**run, "data": data or run["data"]}))
        return folder

    return copy


def errors_of(folder):
    rows = read_predictions(folder).split("test").rows
    return sorted((row for row in rows if row["relation"] != row["predicted"]), key=lambda row: -row["score"])


@pytest.fixture
def posts(finished_run, run_postcards):
    """The test posts of the run, by their ids."""
    data, rows = read_metadata(finished_run).run["data"], read_predictions(finished_run).split("test").rows
    return {post["id"]: post for post in load_run_posts(data, rows, local={"cache_dir": run_postcards.cache_dir})}


def test_the_page_shows_every_error_with_what_there_is(browse, finished_run, posts):
    code, text = browse(finished_run, "--worst", "3")
    page, errors = Page(text), errors_of(finished_run)
    assert code == 0 and len(errors) > 3
    assert page.sentences == [" ".join(posts[row["id"]]["tokens"]) for row in errors]
    assert [card["data-gold"] for card in page.of_class("card")] == [row["relation"] for row in errors]
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 and all(source.startswith("data:image/jpeg;base64,") for source in images)
    assert text.count("attention: nodes") == text.count("attention: hyperedges") == 3
    assert len(page.of_class("box")) == sum(len(posts[row["id"]]["boxes"]) for row in errors[:3])
    assert page.of_class("used") and f"--worst {len(errors)}" in text
    for _, attributes in page.tags:  # nothing is fetched from anywhere
        assert not {"href", "srcset", "action", "integrity"} & set(attributes)
        assert attributes.get("src", "data:").startswith("data:")
    assert "url(" not in text and "@import" not in text and "default-src 'none'" in text


def test_what_is_missing_is_said_and_the_rest_is_shown(browse, changed):
    folder = changed()
    code, text = browse(folder)
    assert code == 0 and "attention: nodes" not in text and "<img" in text and "(model.safetensors)" in text
    code, text = browse(folder, "--show", "predictions", "--dataset", "nowhere")
    assert code == 0 and "<img" not in text and "--show predictions" in text
    assert Page(text).sentences == [f"{row['head']} … {row['tail']}" for row in errors_of(folder)]


def test_a_model_without_hyperedge_attention_and_other_weights_are_told(finished_run, posts):
    metadata = read_metadata(finished_run)
    assert why_no_attention(finished_run, metadata) is None
    metadata.config["hypergraph_encoder"] = "gcn"
    assert "gcn" in why_no_attention(finished_run, metadata)
    first, second = (WrongPair(row, "confused", posts[row["id"]]) for row in errors_of(finished_run)[:2])
    first.row["score"] += 0.1
    assert "1 of 2" in explain(finished_run, [first, second])[0]
    assert sum(node["weight"] for node in second.explanation["nodes"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"change": lambda rows: [{**row, "head_span": [0, 9]} for row in rows]}, [], "{'head_span': ([0, 9], "),
        ({"change": lambda rows: [{**row, "id": f"x{row['id']}"} for row in rows]}, [], "{'id': ('x"),
        ({"change": lambda rows: rows[:-1]}, [], "--data_dir"),
        ({"change": lambda rows: [*rows, {**rows[-1], "pair": 99}]}, [], "pair 99"),
        ({"data": {"colour": "red"}}, [], "['colour']"),
        ({"data": {"dataset": "jsonl"}}, [], "--data: run.json names no folder"),
        ({}, ["--split", "train"], "split 'train'"),
        ({}, ["--worst", "-1"], "-1"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_an_error(browse, changed, capsys, changes, flags, message):
    assert browse(changed(**changes), *flags) == (2, "") and message in capsys.readouterr().err


def row_of(relation, predicted, score=0.8, number=0, words="Ann"):
    rest = (1 - score) / (len(RELATIONS) - 1)
    probabilities = [score if name == predicted else rest for name in RELATIONS]
    row = {"split": "test", "id": f"{words} {number}", "pair": 0, "head": words, "tail": "Bob", "relation": relation}
    return {**row, "predicted": predicted, "score": score, "probabilities": probabilities}


def post_of(words="Ann", **fields):
    pair = {"head": [0, 1], "tail": [2, 3], "tail_object": -1}
    return {"tokens": [words, "met", "Bob"], "pairs": [pair], **fields}


def page_of(rows, pairs, words="run"):
    page = {"title": words, "split": words, "command": words, "about": [(words, words)], "leaks": [words]}
    page |= {"scores": [{"name": words, "value": words, "note": words}], "notes": [words], "made_by": words}
    return render(page, pairs, Predictions(rows, RELATIONS, "None", Path("run")))


def test_the_surest_error_comes_first_and_its_kind_is_named():
    rows = [row_of("None", "peer", 0.6), row_of("peer", "None", 0.9), row_of("peer", "member_of", 0.7)]
    pairs = wrong_pairs([*rows, row_of("peer", "peer", 0.99)], "None")
    found = [(pair.kind, pair.row["score"]) for pair in pairs]
    assert found == [("missed", 0.9), ("confused", 0.7), ("spurious", 0.6)]
    del rows[1]["probabilities"]
    with pytest.raises(ValueError, match=r"\['probabilities'\]"):
        wrong_pairs(rows, "None")


def test_the_heat_map_counts_every_pair_and_leaves_out_what_never_occurs():
    matrix = heat_map(["None", "peer", "peer"], ["None", "peer", "None"], RELATIONS)
    counts = {(cell["gold"], cell["predicted"]): (cell["count"], cell["share"]) for cell in matrix["cells"]}
    assert list(counts.items()) == [
        (("None", "None"), (1, 1.0)), (("None", "peer"), (0, 0.0)),
        (("peer", "None"), (1, 0.5)), (("peer", "peer"), (1, 0.5)),
    ]  # fmt: skip


def test_overlapping_mentions_and_objects_are_marked():
    post = {"tokens": "New York Mets of Queens".split(), "pairs": [{"head": [0, 2], "tail": [1, 3]}]}
    assert card_of(WrongPair(row_of("peer", "None"), "missed", post), RELATIONS)["sentence"] == [
        ("New", "head"), ("York", "head tail"), ("Mets", "tail"), ("of Queens", ""),
    ]  # fmt: skip
    image = Image.new("RGB", (200, 100))
    pair = {"head": [0, 1], "tail": [], "tail_object": 1}
    seen = {"boxes": [[0, 0, 20, 20], [50, 25, 150, 75]], "object_labels": ["cup", ""], "image": image}
    card = card_of(WrongPair(row_of("peer", "None"), "missed", {**post, **seen, "pairs": [pair]}), RELATIONS)
    cup, tail = card["picture"]["boxes"]
    assert (cup["label"], cup["is_used"], tail["label"], tail["kind"]) == ("cup", False, "object 1", "tail")
    assert tail["place"] == "left:25.00%;top:25.00%;width:50.00%;height:50.00%"


def test_text_is_text_wherever_it_comes_from():
    rows = [{**row_of("peer", "None", words=EVIL), "tail": EVIL}]
    post = post_of(EVIL, caption=EVIL, image_phrases=[EVIL], image=Image.new("RGB", (9, 9)), boxes=[[0, 0, 9, 9]])
    post["object_labels"] = [EVIL]
    nodes = [{"kind": "object", "text": EVIL, "box": [0, 0, 9, 9], "characters": None, "weight": 1.0}]
    edges = [{"name": EVIL, "weight": 1.0, "members": [{"node": 0, "weight": 1.0}]}]
    pair = WrongPair(rows[0], "missed", post, {"nodes": nodes, "hyperedges": edges})
    page, harmless = Page(page_of(rows, [pair], EVIL)), Page(page_of([row_of("peer", "None")], []))
    assert [tag for tag, _ in page.tags].count("script") == [tag for tag, _ in harmless.tags].count("script") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert [tag for tag, _ in page.tags].count("img") == 1 and page.sentences == [f"{EVIL} met Bob"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("chromium"), window="1440,1200")
    yield driver
    driver.quit()


def test_it_opens_from_a_file_and_filters(chromium, browse, finished_run, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    wait_until = WebDriverWait(chromium, 5, poll_frequency=0.05).until  # the page filters after the form's reset

    def shown():
        return [card for card in chromium.find_elements("css selector", ".card") if card.is_displayed()]

    def first(selector):
        return chromium.find_elements("css selector", selector)[0]

    browse(finished_run, "--worst", "2", "--show", "posts")
    address = (tmp_path / "report.html").as_uri()
    chromium.get(address)
    assert chromium.get_log("browser") == [] and requested_urls(chromium) == [address]
    assert first(".card img").get_property("naturalWidth") > 0
    everything = len(shown())
    assert everything == len(errors_of(finished_run))
    square = first(".cell.error")
    gold, predicted = square.get_attribute("data-gold"), square.get_attribute("data-predicted")
    square.click()
    assert len(shown()) == int(square.find_element("css selector", "text").text) < everything
    assert {(c.get_attribute("data-gold"), c.get_attribute("data-predicted")) for c in shown()} == {(gold, predicted)}
    first("[type=reset]").click()
    wait_until(lambda _: len(shown()) == everything and not first("#cell").is_displayed())
    row = errors_of(finished_run)[-1]
    first("#words").send_keys(row["id"].upper())
    wait_until(lambda _: len(shown()) < everything)
    assert {row["id"]} == {card.find_element("css selector", ".meta").text.split()[1].strip(",") for card in shown()}
    assert chromium.get_log("browser") == [] and requested_urls(chromium) == []


def test_a_tweet_cannot_run_a_script(chromium, tmp_path):
    rows = [{**row_of("peer", "None", words=EVIL), "tail": EVIL}]
    (tmp_path / "evil.html").write_text(page_of(rows, [WrongPair(rows[0], "missed", post_of(EVIL))], EVIL))
    chromium.get((tmp_path / "evil.html").as_uri())
    assert chromium.title.startswith("Errors of <script>") and chromium.get_log("browser") == []
    insert = "document.body.insertAdjacentHTML('beforeend', arguments[0]); setTimeout(arguments[1], 200)"
    chromium.execute_async_script(insert, EVIL)
    assert chromium.find_elements("css selector", "body > img")  # were it not escaped, the page's policy would hold:
    assert chromium.title.startswith("Errors of <script>")
