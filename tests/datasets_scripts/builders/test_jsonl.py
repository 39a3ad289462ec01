"""People's own data: JSONL and CSV become posts, and whatever is wrong is said with file, line, field and fix."""

import codecs
import json
import re

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.jsonl import Posts, read_labels, read_posts
from datasets_scripts.builders.mentions import Sentence, tokenize


LABELS = ["None", "peer", "works_for"]
TEXT = "Ann met Bob, and Ann's boss met Bo."


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))


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


def write(folder, *rows, name="train.jsonl"):
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in rows), "utf-8")
    return path


def read(path, labels=LABELS):
    return [post for _, post in read_posts(path, labels=labels, split=path.stem)]


# mentions ------------------------------------------------------------------------------------------------------------


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
        ("Ann", {}, r"'Ann' is 2 times in the sentence, .*at characters \(0, 3\); .*at characters \(17, 20\)"),
        ("a", {"tokens": ["a", "b", "a"]}, r"'a' is 2 times in .*at tokens \(0, 1\) .*at tokens \(2, 3\)"),
        ("bob", {}, r"'bob' is not in the sentence .*Nearest: 'Bob' at characters \(8, 11\)"),
        ("Zebulon", {}, "'Zebulon' is not in the sentence .* Nothing is like it"),
        ("", {}, "a mention must not be blank, received ''"),
        ([8, 10], {}, r"whole tokens, received \[8, 10\), 'Bo', which cuts one. Use \[8, 11\), 'Bob'"),
        ([3, 4], {}, r"expected characters of a word, received \[3, 4\), white space"),
        ([5, 99], {}, r"0 <= start < end <= 35 characters, received \[5, 99\)"),
        ([1, 1], {"tokens": ["a", "b"]}, r"0 <= start < end <= 2 tokens, received \[1, 1\)"),
        ([True, 2], {}, r"expected \[start, end\) in characters or a string of the sentence, received \[True, 2\]"),
        ({"start": 1}, {}, r"expected \[start, end\) in characters or a string"),
    ],
)
def test_a_mention_that_is_not_one_place_is_an_error(mention, sentence, message):
    with pytest.raises(ValueError, match=rf"f.jsonl, line 3, field 'head': .*{message}"):
        span(mention, **sentence)


# rows ----------------------------------------------------------------------------------------------------------------


def test_a_full_row(folder):
    full = {
        "id": 7,
        "tokens": TEXT.split(),
        "image": "a.png",
        "caption": " two people ",
        "image_phrases": ["people", "a wall"],
        "boxes": [[0, 0, 9.5, 9], [1, 1, 2, 2]],
        "object_labels": ["person", "dog"],
        "pairs": [
            {"head": [0, 1], "tail": "met Bob,", "relation": "peer", "text_phrases": ["boss", [0, 2]], "objects": [1]},
            {"head": "boss", "tail_object": 1, "relation": "None", "image_phrases": [1]},
        ],
    }
    (post,) = read(write(folder, full))
    assert (post["id"], post["image_id"], post["caption"]) == ("7", "a.png", "two people")
    assert post["boxes"] == [[0, 0, 9.5, 9], [1, 1, 2, 2]] and post["object_labels"] == ["person", "dog"]
    first, second = post["pairs"]
    assert (first["head"], first["tail"], first["tail_object"], first["objects"]) == ([0, 1], [1, 3], -1, [1])
    assert first["text_phrases"] == [[5, 6], [0, 2]]
    assert (second["tail"], second["tail_object"], second["image_phrases"]) == ([], 1, [1])


def test_what_may_be_missing_is_empty(folder):
    (post,) = read(write(folder, "", row(), ""))
    assert post["id"] == "train-0" and post["image_id"] is None and post["caption"] is None
    assert post["boxes"] == post["object_labels"] == post["image_phrases"] == post["pairs"][0]["text_phrases"] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'a': 1}", "line 2: expected one JSON object, received \"{'a': 1}\""),
        ([1], r"line 2: expected an object with the fields \['id', .*\], received \[1\]"),
        (row(txet="x"), "line 2: unknown field 'txet'. Did you mean 'text'"),
        (row(zzz=1), r"line 2: unknown field 'zzz'. Fields are \['id'"),
        (pair(haed="Bob"), r"line 2, field 'pairs\[0\]': unknown field 'haed'. Did you mean 'head'"),
        (row(tokens=["a"]), "line 2, field 'text': expected either 'text' or 'tokens', received .'pairs', 'text', 't"),
        (row(text=" "), "line 2, field 'text': expected a sentence, received ' '"),
        (row(text=3), "line 2, field 'text': expected a string, received 3"),
        (row(text=None, tokens=["a b"]), r"field 'tokens': expected .* without white space, received \['a b'\]"),
        (row(text=None, tokens="a b"), "field 'tokens': expected a list of strings, received 'a b'"),
        (row(id=[1]), r"field 'id': expected a string or an int, received \[1\]"),
        (row(caption=1), "field 'caption': expected a string, received 1"),
        (row(image_phrases=[1]), r"field 'image_phrases': expected a list of strings, received \[1\]"),
        (row(image="/etc/a.png"), "field 'image': expected a path inside the data folder.* received '/etc/a.png'"),
        (row(image="../a.png"), "field 'image': expected a path inside the data folder.* received '../a.png'"),
        (row(image="a.png", boxes=3), r"field 'boxes': expected a list of \[x0, y0, x1, y1\] in pixels, received 3"),
        (row(image="a.png", boxes=[[0, 0, 0, 5]]), r"field 'boxes\[0\]': expected .* with x0 < x1 and y0 < y1, rec"),
        (row(image="a.png", boxes=[[0, 0, 5]]), r"field 'boxes\[0\]': expected .* received \[0, 0, 5\]"),
        (row(boxes=[[0, 0, 5, 5]]), "field 'boxes': expected boxes of an image, received no image. Add 'image'"),
        (row(image="a.png", boxes=[[0, 0, 5, 5]], object_labels=["a", "b"]), "one label a box, 1, received 2"),
        (row(pairs=[]), "field 'pairs': expected a list of at least one .*, received .."),
        (row(pairs=[3]), r"field 'pairs\[0\]': expected an object with the fields \['head'.* received 3"),
        (pair(head=None), r"field 'pairs\[0\].head': expected a span or a string of the sentence, received none"),
        (pair(tail_object=0), r"field 'pairs\[0\].tail': expected either 'tail' .* or 'tail_object'.* received tail="),
        (
            pair(tail=None),
            r"field 'pairs\[0\].tail': expected either 'tail'.* tail=None and tail_object=None",
        ),
        (pair(tail=None, tail_object=0), r"'pairs\[0\].tail_object': expected indices from 0 into the row's 0 boxes"),
        (pair(objects=[0]), r"'pairs\[0\].objects': expected indices from 0 into the row's 0 boxes, received \[0\]"),
        (pair(objects=3), r"'pairs\[0\].objects': expected indices from 0 into the row's 0 boxes, received 3"),
        (pair(image_phrases=[0]), r"'pairs\[0\].image_phrases': expected indices .* row's 0 image_phrases, rec"),
        (pair(text_phrases="Bob"), r"'pairs\[0\].text_phrases': expected a list of spans or strings, received 'Bob'"),
        (pair(text_phrases=["Ann"]), r"'pairs\[0\].text_phrases\[0\]': 'Ann' is 2 times"),
        (pair(relation="per"), r"'pairs\[0\].relation': expected one of .* received 'per'. Did you mean 'peer'\?"),
        (pair(relation=9), r"'pairs\[0\].relation': expected one of \['None', 'peer', 'works_for'\], received 9.$"),
    ],
)
def test_a_wrong_row_names_file_line_field_and_fix(folder, line, message):
    with pytest.raises(ValueError, match=rf"mine/train.jsonl, .*{message}"):
        read(write(folder, row(), line))


def test_two_posts_of_one_id_name_both_places(folder):
    path = write(folder, row(id="x"), row(), row(id="x"))
    with pytest.raises(ValueError, match=r"train.jsonl, line 3, field 'id': .*'x', which .*train.jsonl, line 1 has"):
        read(path)


def test_other_bytes_than_utf8(folder):
    for name in ("train.jsonl", "train.csv"):
        (folder / name).write_bytes(b'\n{"text": "caf\xe9"}\n')
        with pytest.raises(ValueError, match=rf"{name}, line 2: expected UTF-8, received other bytes \(0xe9, invalid"):
            read(folder / name)


@pytest.mark.parametrize(
    ("name", "content"), [("train.jsonl", ""), ("train.jsonl", " \n\n"), ("train.csv", ""), ("train.csv", "text\n")]
)
def test_a_file_without_rows_is_an_error_that_names_it(folder, tmp_path, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: expected at least one record, received none. Remove the file to "):
        load(folder, tmp_path)


# CSV -----------------------------------------------------------------------------------------------------------------


def test_csv_rows_of_one_sentence_and_image_make_one_post(folder):
    path = write(
        folder,
        "text,image,head,tail,relation,caption,boxes,tail_object,text_phrases",
        f'"{TEXT}",a.png,Bob,boss,peer,people,"[[0, 0, 5, 5]]",,"[""boss""]"',
        '"Bob left",,Bob,"[4, 8]",None,,,,',
        f'"{TEXT}",a.png,"[0, 3]",,works_for,people,"[[0, 0, 5, 5]]",0,',
        name="train.csv",
    )
    first, second = read(path)
    assert [p["relation"] for p in first["pairs"]] == ["peer", "works_for"]
    assert [p["tail_object"] for p in first["pairs"]] == [-1, 0]
    assert first["pairs"][0]["text_phrases"] == [[8, 9]] and first["boxes"] == [[0, 0, 5, 5]]
    assert (second["id"], second["image_id"], second["pairs"][0]["tail"]) == ("train-1", None, [1, 2])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["text,haed"], r"line 1: expected columns among \['id'.*, each once, received 'haed'. Did you mean 'head'"),
        (["text,text"], "line 1: expected columns among .*, each once, received 'text'"),
        (["text,zzzz"], "line 1: expected columns .* received 'zzzz'. Rename or remove it"),
        (["text,head", "a,b,c"], r"line 2: expected 2 cells, one for each of \['text', 'head'\], received another"),
        (["text,boxes", "a,[0"], r"line 2, field 'boxes': expected JSON, received '\[0'"),
        (["text,head", '"a"b,c'], "line 2: expected CSV with quoted cells"),
        (
            ["text,caption,head,tail,relation", "a b,x,a,b,peer", "a b,y,b,a,peer"],
            "line 3, field 'caption': expected what .*train.csv, line 2 has .*, 'x', received 'y'",
        ),
    ],
)
def test_wrong_csv(folder, lines, message):
    with pytest.raises(ValueError, match=rf"mine/train.csv, {message}"):
        read(write(folder, *lines, name="train.csv"))


def test_a_mention_in_brackets_is_no_span(folder):
    path = write(folder, "text,head,tail,relation", "see [Ann] here,[Ann],here,peer", name="train.csv")
    assert read(path)[0]["pairs"][0]["head"] == [1, 4]


# folders -------------------------------------------------------------------------------------------------------------


def test_labels_are_collected_with_the_none_label_first(folder):
    write(folder, pair(relation="works_for"))
    write(folder, "text,head,tail,relation", "a b,a,b,no_relation", "a b,a,b,peer", name="test.csv")
    assert read_labels(folder) == ["no_relation", "peer", "works_for"]


@pytest.mark.parametrize("content", [["peer", "None"], {"None": 1, "peer": 0}])
def test_labels_of_a_file_keep_its_order(folder, content):
    for mark in (b"", codecs.BOM_UTF8):
        (folder / "labels.json").write_bytes(mark + json.dumps(content).encode())
        assert read_labels(folder) == ["peer", "None"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", "a"]', "labels.json: expected distinct names of relations, at least one, received"),
        ("[]", "labels.json: expected distinct names"),
        ('{"a": 5}', "labels.json: expected a JSON object {relation: id} with the ids 0 to n - 1"),
        ("nope", "labels.json: expected one JSON object {relation: id}"),
        ('["a", "b"]', r"labels.json: expected the relations to have one that means 'no relation', named None.*'a', "),
    ],
)
def test_wrong_label_files(folder, content, message):
    (folder / "labels.json").write_text(content)
    with pytest.raises(ValueError, match=re.sub("[{}]", ".", message)):
        read_labels(folder)


def test_rows_without_a_none_label_are_an_error(folder):
    write(folder, row())
    with pytest.raises(ValueError, match=r"the rows of .*mine: expected .* 'no relation'.* received \['peer'\]"):
        read_labels(folder)


def load(folder, tmp_path, **fields):
    return build(Posts, config_name="jsonl", data_dir=folder, cache_dir=tmp_path / "cache", **fields)


def test_the_folder_builds_and_notices_changes(folder, tmp_path):
    write(folder, row(image="a.png"), pair(relation="None"))
    write(folder, row(image="images/a.png"), name="validation.jsonl")
    posts = load(folder, tmp_path)
    assert {split: len(rows) for split, rows in posts.items()} == {"train": 2, "validation": 1}
    assert posts["train"][0]["image"].size == posts["validation"][0]["image"].size == (40, 30)
    assert posts["train"][1]["image"] is None
    write(folder, row(), pair(relation="None"), row())
    assert len(load(folder, tmp_path)["train"]) == 3
    assert "image" not in load(folder, tmp_path, images=False)["train"].features


def test_a_missing_image_is_an_error_or_none(folder, tmp_path):
    write(folder, pair(relation="None"), row(image="b.png"))
    with pytest.raises(ValueError, match=r"train.jsonl, line 2, field 'image': expected a file in .*'b.png', which"):
        load(folder, tmp_path)
    assert load(folder, tmp_path, missing_images="none")["train"][1]["image"] is None
    with pytest.raises(ValueError, match="images: expected True or False, received 'no'"):
        load(folder, tmp_path, images="no")
    with pytest.raises(ValueError, match=r"missing_images: expected one of \['error', 'none'\], received 'x'"):
        load(folder, tmp_path, missing_images="x")


def test_folders_without_or_with_two_files_of_a_split(folder, tmp_path):
    write(folder, row(), name="val.jsonl")
    with pytest.raises(FileNotFoundError, match=r"expected train.jsonl, .*found \['val.jsonl'\]. Put train.jsonl"):
        load(folder, tmp_path)
    write(folder, row())
    write(folder, "text", name="train.csv")
    with pytest.raises(ValueError, match="expected one file of the train split, received .*train.jsonl and .*train.c"):
        load(folder, tmp_path)
