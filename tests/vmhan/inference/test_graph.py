"""Facts as a graph: what is one node and one edge, what their worth is, and that every file of it says the same."""

import csv
import json
import re
from collections import Counter
from types import SimpleNamespace

import networkx
import pytest
from PIL import Image

from vmhan.inference import graph_picture
from vmhan.inference.answers import FORMULA, triples_of, write_csv
from vmhan.inference.command import products
from vmhan.inference.graph import fact_graph, write_graphml, write_jsonld, write_nodes, write_relationships
from vmhan.inference.graph_picture import write_picture


MEMBER, PEER, RESIDENCE = "/per/org/member_of", "/per/per/peer", "/per/loc/place_of_residence"


def fact(head, relation, tail, confidence=0.5, source="q1", is_object=False):
    triple = {"head": head, "relation": relation, "tail": tail, "confidence": confidence, "source": source}
    return {**triple, "tail_is_object": is_object}


def edges(graph):
    return [(head, of["relation"], tail) for head, tail, of in graph.edges(data=True)]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["Ann Keller", "ANN  keller", "ann\nKeller"], 1),
        (["Jose\u0301", "José"], 1),
        (["ＮＢＡ", "NBA", "nba"], 1),
        (["Straße", "STRASSE"], 1),
        (["\u1fb3", "\u0391\u0399"], 1),  # alpha with an iota below it, whose upper case are two letters
        (["Ann", "Anne"], 2),
        (["@ann", "ann"], 2),
    ],
)
def test_mentions_of_one_name_are_one_node(names, count):
    graph = fact_graph([fact(name, PEER, "Bob") for name in names])
    assert len(graph) == count + 1 and graph.number_of_edges() == count


def test_the_type_is_told_by_the_relation_or_not_at_all():
    facts = [fact("Paris", RESIDENCE, "Paris"), fact("Paris", "lives_in", "Paris"), fact("Paris", "/a/b", "Paris")]
    graph = fact_graph([*facts, fact("Paris", RESIDENCE, "q1 [0, 0, 1, 1]", is_object=True)])
    assert dict(graph.nodes(data="type")) == {
        "per:paris": "per", "loc:paris": "loc", "entity:paris": "entity", "object:q1 [0, 0, 1, 1]": "object",
    }  # fmt: skip


def test_an_edge_has_its_posts_and_the_best_and_the_mean_of_them():
    scores = [("q1", 0.25), ("q2", 0.75), ("q1", 0.5), ("in.csv:3", 1.0)]
    facts = [fact("Ann" if i else "ANN", MEMBER, "The Band", *pair[::-1]) for i, pair in enumerate(scores)]
    graph = fact_graph([*facts, fact("The Band", MEMBER, "Ann"), fact("Ann", PEER, "Bob", 0.5, "q9")])
    (edge, *_), ann = [of for _, _, of in graph.edges(data=True)], graph.nodes["per:ann"]
    worth = {"score": 1.0, "mean_score": 0.75, "support": 3, "posts": ["q1", "q2", "in.csv:3"]}
    assert edge == {"relation": MEMBER, **worth}
    assert ann == {"name": "Ann", "type": "per", "support": 4} and graph.nodes["org:ann"]["support"] == 1
    assert edges(graph)[1:] == [("per:ann", PEER, "per:bob"), ("per:the band", MEMBER, "org:ann")]


def test_symmetric_relations_are_one_edge_whichever_way_they_were_said():
    facts = [fact("Bob", PEER, "Ann", 0.5, "q1"), fact("Ann", PEER, "Bob", 0.5, "q2")]
    assert edges(fact_graph(facts)) == [("per:bob", PEER, "per:ann"), ("per:ann", PEER, "per:bob")]
    (edge,) = fact_graph(facts, symmetric={PEER}).edges(data=True)
    assert edge[:2] == ("per:ann", "per:bob") and edge[2]["support"] == 2


@pytest.mark.parametrize(("order_blind", "count"), [(True, 1), (False, 2)])
def test_of_an_order_blind_model_what_has_no_inverse_is_symmetric(tmp_path, order_blind, count):
    labels = ["None", MEMBER, PEER, f"{MEMBER} (inverse)"]
    config = SimpleNamespace(none_label="None", labels=labels, order_blind=order_blind)
    row = {"row": 1, "id": "q", "tail_box": None, "tail_is_object": False, "score": 0.5, "abstained": False}
    said = [("Ann", PEER, "Bob"), ("Bob", PEER, "Ann"), ("Ann", MEMBER, "Bob"), ("Bob", MEMBER, "Ann")]
    rows = [{**row, "head": head, "relation": relation, "tail": tail} for head, relation, tail in said]
    paths = {"output": tmp_path / "out.graphml", "input": tmp_path / "in.jsonl"}
    arguments = SimpleNamespace(format="graph", backend="onnx", **paths)
    products(arguments, SimpleNamespace(config=config))[arguments.output](iter(rows), arguments.output)
    graph = networkx.read_graphml(arguments.output, force_multigraph=True)
    assert Counter(relation for *_, relation in graph.edges(data="relation")) == {PEER: count, MEMBER: 2}


def test_the_hook_links_names_to_ids_and_is_asked_once_a_node():
    asked = []

    def link(name, type_):
        asked.append((name, type_))
        return {"nyc": "http://www.wikidata.org/entity/Q60"}.get(name.lower().replace("new york city", "nyc"))

    facts = [fact("Ann", RESIDENCE, name, 0.5, f"q{i}") for i, name in enumerate(["NYC", "New York City", "nyc"])]
    graph = fact_graph(facts, link=link)
    assert list(graph) == ["per:ann", "http://www.wikidata.org/entity/Q60"]
    assert graph.number_of_edges() == 1 and asked == [("Ann", "per"), ("NYC", "loc"), ("New York City", "loc")]


def test_none_and_abstained_answers_make_no_edge():
    row = {"row": 3, "id": None, "head": "a", "tail": "b", "tail_box": None, "tail_is_object": False, "score": 0.5}
    rows = [{**row, "relation": name, "abstained": name is None} for name in ("None", None, "peer", "peer")]
    (edge,) = fact_graph(triples_of(rows, none_label="None", input_name="in.csv")).edges(data=True)
    assert edge[2]["relation"] == "peer" and edge[2]["posts"] == ["in.csv:3"] and edge[2]["support"] == 1


NASTY = ['<a> & "b"', "x\x00y\x0b\n z", "\U0001f600", "\ufffe", "=1+1", "'=1", "@bob;c", "a;b|c,d", "a\ud83d", "علي"]


@pytest.fixture
def nasty(tmp_path):
    """A graph of names that hold anything, whose posts' ids do as well, and a folder."""
    facts = [fact(name, "/per/per/pe;er", "t", 0.25, name) for name in NASTY]
    return fact_graph(facts), tmp_path


def test_graphml_holds_the_graph(nasty):
    graph, folder = nasty
    write_graphml(graph, folder / "out.graphml")
    read = networkx.read_graphml(folder / "out.graphml", force_multigraph=True)
    assert dict(read.nodes(data=True)) == dict(graph.nodes(data=True)) and "per:x\ufffdy z" in read
    assert len({key for *_, key in read.edges(keys=True)}) == len(NASTY)
    for (*_, found), (*_, edge) in zip(read.edges(data=True), graph.edges(data=True), strict=True):
        assert {**found, "posts": json.loads(found["posts"])} == edge


def test_jsonld_holds_each_fact_as_a_triple_and_as_a_statement(nasty):
    graph, folder = nasty
    write_jsonld(graph, folder / "out.jsonld")
    content = json.loads((folder / "out.jsonld").read_text(encoding="utf-8"))
    nodes, statements = content["@graph"][: len(graph)], content["@graph"][len(graph) :]
    assert [node["name"] for node in nodes] == [name for _, name in graph.nodes(data="name")]
    assert len({node["@id"] for node in nodes}) == len(graph) and len(statements) == len(NASTY)
    direct = {(n["@id"], p, o["@id"]) for n in nodes for p in n if p.startswith("urn:") for o in n[p]}
    assert direct == {(of["subject"], of["predicate"], of["object"]) for of in statements}
    assert all(iri.isascii() and not set(iri) & set(' <>"{}|\\^`') for triple in direct for iri in triple)
    expected = {"@type": "rdf:Statement", "score": 0.25, "support": 1, "posts": [NASTY[0]]}
    assert expected.items() <= statements[0].items()
    linked = fact_graph([fact("a", PEER, "b")], link=lambda name, _: f"https://kb/{name}")
    write_jsonld(linked, folder / "linked.jsonld")
    assert json.loads((folder / "linked.jsonld").read_text())["@graph"][0]["@id"] == "https://kb/a"


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_files_for_neo4j_hold_the_graph(nasty):
    """As `neo4j-admin database import` reads them: no cell has a line break, no post's id the sign between ids."""
    graph, folder = nasty
    write_nodes(graph, folder / "nodes.csv")
    write_relationships(graph, folder / "relationships.csv")
    nodes, relationships = rows_of(folder / "nodes.csv"), rows_of(folder / "relationships.csv")
    assert nodes[0] == ["id:ID", "name", ":LABEL", "support:int"]
    ends = [":START_ID", ":END_ID", ":TYPE"]
    assert relationships[0] == [*ends, "score:double", "mean_score:double", "support:int", "posts:string[]"]
    assert {cell for row in relationships[1:] for cell in row[:2]} == {row[0] for row in nodes[1:]}
    assert {row[2] for row in nodes[1:]} == {"per"} and {row[2] for row in relationships[1:]} == {"/per/per/pe;er"}
    assert [row[6] for row in relationships[1:]][6:8] == ["'@bob%3Bc", "a%3Bb|c,d"]
    assert not any(set("\r\n") & set(cell) for row in (*nodes, *relationships) for cell in row)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@bob", "'@bob"), ("\t=1", "'\t=1"), ("\r=1", "'\r=1"),
        ("'=1", "''=1"), ("''@a", "'''@a"), ("=", "'="),
        ("'tis", "'tis"), ("Ann", "Ann"), ("a=b", "a=b"), ("", ""), ("'", "'"), ("[0, 3]", "[0, 3]"),
        (-0.5, "-0.5"), (3, "3"), (None, ""),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_text_and_can_be_had_back(tmp_path, value, cell):
    write_csv([{"a": value, "b": "x"}], tmp_path / "out.csv", ("a", "b"))
    assert rows_of(tmp_path / "out.csv") == [["a", "b"], [cell, "x"]]
    assert not isinstance(value, str) or (cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell) == value


def star(count):
    """Ann with `count` - 1 others; the last ones have more support."""
    return [fact("Ann", PEER, f"Person {i}", 0.5, f"q{j}") for i in range(1, count) for j in range(1 + i // 40)]


@pytest.mark.parametrize(("count", "said"), [(1, "0 entities, 0"), (4, "4 entities, 3 facts"), (60, "50 .*60: 49")])
def test_a_picture_has_the_entities_with_the_most_support(tmp_path, monkeypatch, count, said):
    drawn, draw_text = [], graph_picture.draw_text
    monkeypatch.setattr(graph_picture, "draw_text", lambda *a, **o: drawn.append(a[2]) or draw_text(*a, **o))
    write_picture(fact_graph(star(count)), tmp_path / "out.png")
    assert re.fullmatch(f".*{said}.*", drawn[0]) and Image.open(tmp_path / "out.png").width > 100
    assert count < 60 or ("Person 59" in drawn and "Person 30" not in drawn and "peer 0.50 ×2" in drawn)


def test_a_picture_has_the_facts_with_the_most_support(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(graph_picture, "MAX_FACTS", 2)
    monkeypatch.setattr(graph_picture, "draw_text", lambda *a, **o: drawn.append(a[2]))
    facts = [
        fact("Ann", PEER, name, 0.5, f"q{j}")
        for name, support in (("Bob", 1), ("Zoe", 2), ("Eve", 3))
        for j in range(support)
    ]
    write_picture(fact_graph(facts), tmp_path / "out.png")
    assert drawn[0] == "4 entities, 2 of 3 facts" and {"peer 0.50 ×2", "peer 0.50 ×3", "Bob"} <= set(drawn)
    assert "peer 0.50 ×1" not in drawn


@pytest.mark.parametrize("facts", [star(5), star(20), star(50), [fact("A" * 90, "r", "A" * 90), fact("b", "r", "b")]])
def test_no_words_of_a_picture_hide_others(facts, tmp_path, monkeypatch):
    boxes = []
    monkeypatch.setattr(graph_picture, "_draw_chip", lambda *chip: boxes.append(chip[2:4]))
    write_picture(fact_graph(facts), tmp_path / "out.png")
    width, height = Image.open(tmp_path / "out.png").size
    for i, (middle, size) in enumerate(boxes):
        assert (middle >= size / 2).all() and (middle + size / 2 <= (2 * width, 2 * height)).all()
        assert all((abs(middle - other) >= (size + its_size) / 2).any() for other, its_size in boxes[:i])
