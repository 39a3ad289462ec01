"""People's own data: JSONL and CSV become posts, and whatever is wrong is said with file, line, field and fix."""

import codecs
import functools
import json
import re

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.jsonl import Posts, read_labels, read_posts
from datasets_scripts.builders.mentions import Sentence
from datasets_scripts.leaks import ORDER_BLIND, protocol_of
from modeling_vmhan.words import tokenize


LABELS = ["None", "peer", "works_for"]
TEXT = "Ann met Bob, and Ann's boss met Bo."


def row(**changes):
    return {"text": TEXT, "pairs": [{"head": "Bob", "tail": "boss", "relation": "peer"}]} | changes


def pair(**changes):
    return row(pairs=[{"head": "Bob", "tail": "boss", "relation": "peer"} | changes])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
    return folder


@pytest.fixture
def load(folder):
    return functools.partial(build, Posts, config_name="jsonl", data_dir=folder)


def write(folder, *rows, name="train.jsonl"):
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in rows), "utf-8")
    return path


def read(path, labels=LABELS):
    return [post for _, post in read_posts(path, labels=labels, split=path.stem)]


@given(st.text(max_size=40))
def test_tokens_are_the_text_without_its_white_space(text):
    spans = tokenize(text)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("don't #stop @2nd_st.", ["don", "'", "t", "#", "stop", "@", "2nd_st", "."]),
        ("梅西Messi去了", ["梅", "西", "Messi", "去", "了"]),
        ("naïve café 🎉!", ["naïve", "café", "🎉", "!"]),
    ],
)
def test_the_tokenizing_rule(text, tokens):
    assert Sentence(text=text).tokens == tokens


def span(mention, **sentence):
    return Sentence(**(sentence or {"text": TEXT})).span(mention, place="f.jsonl, line 3", field="head")


def test_three_ways_to_say_a_mention():
    assert span([8, 11]) == span("Bob") == span(" Bob ") == [2, 3]
    assert span("Ann's boss") == span([17, 27]) == [5, 9]
    tokens = "New York City Hall".split()
    assert span("York City", tokens=tokens) == span([1, 3], tokens=tokens) == [1, 3]


@pytest.mark.parametrize(
    ("mention", "sentence", "message"),
    [
        ("Ann", {}, r"'Ann'.* \(0, 3\); .* \(17, 20\)"),
        ("a", {"tokens": ["a", "b", "a"]}, r"'a'.*tokens \(0, 1\) .*tokens \(2, 3\)"),
        ("bob", {}, r"'bob'.*Bob.*\(8, 11\)"),
        ("Zebulon", {}, "'Zebulon'"),
        ("", {}, "''"),
        ([8, 10], {}, r"\[8, 10\), 'Bo', .*\[8, 11\), 'Bob'"),
        ([3, 4], {}, r"\[3, 4\)"),
        ([5, 99], {}, r"35 characters, .*\[5, 99\)"),
        ([1, 1], {"tokens": ["a", "b"]}, r"2 tokens, .*\[1, 1\)"),
        ([True, 2], {}, "True"),
        ({"start": 1}, {}, r"\{'start': 1\}"),
    ],
)
def test_a_mention_that_is_not_one_place_is_an_error(mention, sentence, message):
    with pytest.raises(ValueError, match=rf"f.jsonl, line 3, field 'head.*: .*{message}"):
        span(mention, **sentence)


def test_a_full_row(folder):
    pairs = [
        {"head": [0, 1], "tail": "met Bob,", "relation": "peer", "text_phrases": ["boss", [0, 2]], "objects": [1]},
        {"head": "boss", "tail_object": 1, "relation": "None", "image_phrases": [1]},
    ]
    kept = {"image_phrases": ["people", "a wall"], "boxes": [[0, 0, 9.5, 9], [1, 1, 2, 2]]}
    kept |= {"object_labels": ["person", "dog"], "object_scores": [0.5, 1], "tokens": TEXT.split()}
    (post,) = read(write(folder, kept | {"id": 7, "image": "a.png", "caption": " two people ", "pairs": pairs}))
    first, second = post.pop("pairs")
    assert post == kept | {"text": None, "id": "7", "image_id": "a.png", "caption": "two people"}
    assert (first["head"], first["tail"], first["tail_object"], first["objects"]) == ([0, 1], [1, 3], -1, [1])
    assert first["text_phrases"] == [[5, 6], [0, 2]]
    assert (second["tail"], second["tail_object"], second["image_phrases"]) == ([], 1, [1])


def test_a_row_of_one_pair_has_its_fields_itself(folder):
    fields = {"head": "Bob", "tail": "boss", "relation": "peer", "text_phrases": [[4, 7]]}
    one, other = read(write(folder, {"text": TEXT, **fields}, row(pairs=[fields])))
    assert one["pairs"] == other["pairs"] and one["pairs"][0]["text_phrases"] == [[1, 2]]


def test_tokens_beside_their_text_are_the_tokens(folder):
    fields = {"text": "don't go", "tokens": ["don't", "go"], "head": [0, 1], "tail": "go", "relation": "peer"}
    (post,) = read(write(folder, fields))
    assert (post["text"], post["tokens"]) == ("don't go", ["don't", "go"])
    assert (post["pairs"][0]["head"], post["pairs"][0]["tail"]) == ([0, 1], [1, 2])


def test_a_tail_that_is_a_box_is_an_object(folder):
    boxes, new = [[0, 0, 5, 5]], [1, 1, 9, 9]
    pairs = [{"head": "Bob", "tail": tail, "relation": "peer"} for tail in (new, boxes[0], "boss")]
    known = {"object_labels": ["a"], "object_scores": [0.5]}
    (post,) = read(write(folder, row(image="a.png", boxes=boxes, pairs=pairs, **known)))
    assert post["boxes"] == [*boxes, new]
    assert (post["object_labels"], post["object_scores"]) == (["a", ""], [0.5, 0.0])
    assert [(pair["tail_object"], pair["objects"]) for pair in post["pairs"]] == [(1, [0, 1]), (0, [0]), (-1, [0])]


def test_rows_in_a_script_with_vowel_signs_or_without_spaces(folder):
    rows = [("राम दिल्ली में रहता है", "राम", "दिल्ली"), ("王芳出生在上海", "王芳", "上海"), ("Ann住在上海", "Ann", [5, 7])]
    rows = [row(text=text, pairs=[{"head": head, "tail": tail, "relation": "peer"}]) for text, head, tail in rows]
    posts = read(write(folder, *rows))
    assert [post["tokens"] for post in posts] == [rows[0]["text"].split(), [*"王芳出生在上海"], ["Ann", *"住在上海"]]
    assert [(post["pairs"][0]["head"], post["pairs"][0]["tail"]) for post in posts] == [
        ([0, 1], [1, 2]),
        ([0, 2], [5, 7]),
        ([0, 1], [3, 5]),
    ]


def test_what_may_be_missing_is_empty(folder):
    (post,) = read(write(folder, "", row(), ""))
    assert post["id"] == "train-0" and post["image_id"] is None and post["caption"] is None
    assert post["boxes"] == post["object_labels"] == post["image_phrases"] == []


def test_a_choice_of_none_is_not_a_choice_left_out(folder):
    fields = ("text_phrases", "image_phrases", "objects")
    rows = [row(), row(), row()]
    for of, choice in zip(rows[1:], (None, [])):
        of["pairs"][0] |= dict.fromkeys(fields, choice)
    found = [[post["pairs"][0][name] for name in fields] for post in read(write(folder, *rows))]
    assert found == [[None] * 3, [None] * 3, [[]] * 3]


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("{'a': 1}", "", "{'a': 1}"),
        ([1], "", r"\[1\]"),
        (row(txet="x"), "", "'txet'.*'text'"),
        (pair(haed="Bob"), "pairs[0]", "'haed'.*'head'"),
        (row(tokens=["x"]), "", "tokens must stand in the text .*'x' as token 0"),
        ({"text": TEXT}, "pairs", "pairs with their relations, received .*raw post .*'text'.*vmhan predict"),
        ({"text": TEXT, "pairs": None, "mentions": ["Bob"]}, "pairs", "raw post of .*'mentions'"),
        ({"text": TEXT, "head": "Bob", "relation": "peer"}, "pairs[0].tail", "None"),
        (pair(tail=[0, 0, 5, 5]), "pairs[0].tail", "box.*no image"),
        (pair(tail=[0, 0, 0, 5]), "pairs[0].tail", "box.*0, 0, 0, 5"),
        (row(text=None), "text", "'tokens'.*neither"),
        (row(text=" "), "text", "' '"),
        (row(image_phrases=["\ud83d"]), "image_phrases[0]", "whole characters"),
        (row(text=None, tokens=["a b"]), "tokens[0]", "'a b'"),
        (row(id=True), "id", "True"),
        (row(image="../a.png"), "image", "'../a.png'"),
        (row(image="a.png", boxes=[[0, 0, 0, 5]]), "boxes[0]", r"x0 < x1 .*\[0, 0, 0, 5\]"),
        (row(image="a.png", boxes=[[0, 0, 5, float("nan")]]), "", "NaN"),
        (row(boxes=[[0, 0, 5, 5]]), "boxes", "'image'"),
        (row(image="a.png", boxes=[[0, 0, 5, 5]], object_labels=["a", "b"]), "object_labels", r"1, .*\['a', 'b'\]"),
        (row(image="a.png", boxes=[[0, 0, 5, 5]], object_scores=[0.5, 1]), "object_scores", r"1, .*\[0.5, 1.0\]"),
        (row(image="a.png", boxes=[[0, 0, 5, 5]], object_scores=["high"]), "object_scores[0]", "'high'"),
        (row(pairs=[]), "pairs", r"\[\]"),
        (pair(head=None), "pairs[0].head", "None"),
        (pair(head=3), "pairs[0].head", "3"),
        (pair(tail_object=0), "pairs[0].tail", "'boss'.*'tail_object': 0"),
        (pair(tail=None), "pairs[0].tail", "None.*'tail_object': -1"),
        (pair(tail=None, tail_object=0), "pairs[0].tail_object", "0 boxes.* 0"),
        (pair(objects=[0]), "pairs[0].objects", r"0 boxes.*\[0\]"),
        (pair(objects=[-1]), "pairs[0].objects[0]", "-1"),
        (pair(image_phrases=[0]), "pairs[0].image_phrases", r"0 image_phrases.*\[0\]"),
        (pair(text_phrases=["Ann"]), "pairs[0].text_phrases[0]", "'Ann'"),
        (pair(relation="per"), "pairs[0].relation", "'peer'.*'per'"),
    ],
)
def test_a_wrong_row_names_file_line_field_and_fix(folder, line, field, message):
    where = f", field '{field}'" if field else ""
    with pytest.raises(ValueError, match=rf"mine/train.jsonl, line 2{re.escape(where)}: .*{message}"):
        read(write(folder, row(), line))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b" \n\n", ": .* none"),
        ("train.csv", b"text\n", ": .* none"),
        ("train.csv", b'\n"caf\xe9"\n', ", line 2: .*0xe9"),
        ("labels.json", b'["a", "b"]', r": .*\['a', 'b'\]"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder, load, name, content, message):
    if name == "labels.json":
        write(folder, row())
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}{message}"):
        load()


def test_csv_rows_of_one_sentence_and_image_make_one_post(folder):
    path = write(
        folder,
        "text,image,head,tail,relation,caption,boxes,tail_object,text_phrases",
        f'"{TEXT}",a.png,Bob,boss,peer,people,"[[0, 0, 5, 5]]",,"[""boss""]"',
        '"[Bob] left",,[Bob],"[6, 10]",None,,,,',  # a mention in brackets is no span
        f'"{TEXT}",a.png,"[0, 3]",,works_for,people,"[[0, 0, 5, 5]]",0,',
        name="train.csv",
    )
    first, second = read(path)
    assert [(p["relation"], p["tail_object"]) for p in first["pairs"]] == [("peer", -1), ("works_for", 0)]
    assert first["pairs"][0]["text_phrases"] == [[8, 9]] and first["boxes"] == [[0, 0, 5, 5]]
    of_second = second["pairs"][0]
    assert (second["id"], second["image_id"]) == ("train-1", None)
    assert (of_second["head"], of_second["tail"]) == ([0, 3], [3, 4])


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("train.jsonl", [row(id="x"), row(), row(id="x")], "line 3, field 'id': .*'x', .*train.jsonl, line 1"),
        ("train.csv", ["text,haed"], "line 1: .*'haed'.*'head'"),
        ("train.csv", ["text,text"], "line 1: .*'text'"),
        ("train.csv", ["text,head", "a,b,c"], r"line 2: .*2 cells, \['text', 'head'\]"),
        ("train.csv", ["text,boxes", "a,[0"], r"line 2: column 'boxes': .*'\[0'"),
        ("train.csv", ["text,head", '"a"b,c'], "line 2: "),
        (
            "train.csv",
            ["text,caption,head,tail,relation", "a b,x,a,b,peer", "a b,y,b,a,peer"],
            "line 3, field 'caption': .*train.csv, line 2 .*, 'x', received 'y'",
        ),
    ],
)
def test_rows_that_do_not_fit_together(folder, name, lines, message):
    with pytest.raises(ValueError, match=rf"mine/{name}, {message}"):
        read(write(folder, *lines, name=name))


def test_labels_are_collected_with_the_none_label_first(folder, caplog):
    write(folder, pair(relation="works_for"))
    with pytest.raises(ValueError, match=r"rows of .*mine: .*\['works_for'\]"):
        read_labels(folder)
    assert read_labels(folder, unlisted_are_none=True) == ["None", "works_for"]
    assert "'None' is that label" in caplog.text
    write(folder, "text,head,tail,relation", "a b,a,b,no_relation", "a b,a,b,peer", name="test.csv")
    assert read_labels(folder) == read_labels(folder, unlisted_are_none=True) == ["no_relation", "peer", "works_for"]
    assert "no training pair has, perhaps misspelt: ['no_relation', 'peer']" in caplog.text


@pytest.mark.parametrize("content", [["peer", "None"], {"None": 1, "peer": 0}])
def test_labels_of_a_file_keep_its_order(folder, content):
    (folder / "labels.json").write_bytes(codecs.BOM_UTF8 + json.dumps(content).encode())
    assert read_labels(folder) == ["peer", "None"]


def test_the_folder_builds(folder, load):
    write(folder, row(image="a.png"), pair(relation="None"))
    write(folder, row(image="images/a.png"), name="validation.jsonl")
    posts = load()
    assert {split: len(rows) for split, rows in posts.items()} == {"train": 2, "validation": 1}
    assert posts["train"][0]["image"].size == posts["validation"][0]["image"].size == (40, 30)
    assert posts["train"][1]["image"] is None
    assert "image" not in load(images=False)["train"].features


def test_a_missing_image_is_an_error_or_none(folder, load):
    write(folder, pair(relation="None"), row(image="b.png"))
    with pytest.raises(ValueError, match=r"train.jsonl, line 2, field 'image': .*'b.png'"):
        load()
    assert load(missing_images="none")["train"][1]["image"] is None
    with pytest.raises(ValueError, match="missing_images: .*'x'"):
        load(missing_images="x")


def test_folders_without_or_with_two_files_of_a_split(folder, load):
    write(folder, row(), name="val.jsonl")
    with pytest.raises(FileNotFoundError, match="train.jsonl, .*validation.csv.* Put train.jsonl"):
        load()
    write(folder, row())
    write(folder, "text", name="train.csv")
    with pytest.raises(ValueError, match="data_dir: .*train.jsonl and .*train.csv"):
        load()


def test_order_blind_turns_pairs_and_their_labels(folder, load):
    def given(head, tail, relation):
        return {"head": head, "tail": tail, "relation": relation}

    rows = [
        row(pairs=[given("boss", "Bob", "works_for"), given("Bo", "met Bob", "peer"), given("Bo", "Bob", "None")]),
        row(text="Ann met Bo", pairs=[given("Ann", "Bo", "works_for")]),
    ]
    write(folder, *rows)
    built = load(order_blind=True, symmetric_relations=["peer"])["train"]
    names = built.features["pairs"].feature["relation"].names
    assert names == ["None", "peer", "works_for", "works_for (inverse)"]
    assert [names[pair["relation"]] for post in built for pair in post["pairs"]] == [
        "works_for (inverse)", "peer", "None", "works_for",
    ]  # fmt: skip
    assert all(pair["head"] < pair["tail"] for post in built for pair in post["pairs"])
    assert protocol_of(built) == ORDER_BLIND and protocol_of(load()) is None


@pytest.mark.parametrize(
    ("fields", "relation", "message"),
    [
        ({"order_blind": True, "symmetric_relations": ["per"]}, "peer", r"symmetric_relations: .*\['per'\].*'peer'"),
        ({"symmetric_relations": ["peer"]}, "peer", r"symmetric_relations: .*order_blind=True.*\['peer'\]"),
        ({"order_blind": True}, "peer (inverse)", r"labels: .*\['peer \(inverse\)'\]"),
        ({"order_blind": "yes"}, "peer", "order_blind: .*'yes'"),
    ],
)
def test_what_order_blind_cannot_do_is_said(folder, load, fields, relation, message):
    write(folder, pair(relation=relation), pair(relation="None") | {"text": TEXT + " ."})
    with pytest.raises(ValueError, match=message):
        load(**fields)
