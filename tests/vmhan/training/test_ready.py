"""Posts that others wrote as Parquet: relations may be strings; another type is named before anything is trained."""

import json

import datasets
import pytest
from datasets import ClassLabel, Features, LargeList, List, Value

import run_mmre
from datasets_scripts.builders.ready import ready_posts
from vmhan import cli
from vmhan.training.arguments import parse_arguments
from vmhan.training.posts.data import load_posts


SPAN, STRING, INDEX = List(Value("int64")), Value("string"), Value("int64")
PAIR = {"head": SPAN, "tail": SPAN, "relation": STRING}
COLUMNS = {"id": STRING, "tokens": List(STRING), "pairs": List(PAIR)}
FLOAT = Value("float32")
VECTOR = List(FLOAT, length=2)
FEATURES = {"image_features": VECTOR}


def pair(relation="peer", **fields):
    return {"head": [0, 1], "tail": [2, 3], "relation": relation, **fields}


def post(number=0, *relations, **fields):
    pairs = [pair(relation) for relation in relations or ("peer", "None")]
    return {"id": f"p{number}", "tokens": ["Ann", "met", "Bob"], "pairs": pairs, **fields}


@pytest.fixture
def load(tmp_path):
    """`load({split: rows}, features, *flags)`: the rows, saved as Parquet and loaded as `vmhan train` does."""

    def load(splits, features=COLUMNS, *flags, labels=None):
        for split, rows in splits.items():
            rows = [dict.fromkeys(features) | row for row in rows]
            made = datasets.Dataset.from_list(rows, features=Features(features))
            made.to_parquet(tmp_path / "posts" / f"{split}.parquet")
        cache = ["--cache_dir", str(tmp_path / "cache"), "--output_dir", str(tmp_path / "out")]
        _, data_args, run_args = parse_arguments(["--dataset", str(tmp_path / "posts"), *cache, "--do_train", *flags])
        return load_posts(data_args, run_args, labels=labels)

    return load


def names_of(posts):
    return [rows.features["pairs"].feature["relation"].names for rows in posts.values()]


@pytest.mark.parametrize("kind", [STRING, Value("large_string")])
def test_relations_that_are_strings_get_the_train_splits_labels(load, kind):
    columns = COLUMNS | {"pairs": List(PAIR | {"relation": kind})}
    posts = load({"train": [post(0, "works_for", "None"), post(1, "peer")], "test": [post(2, "peer")]}, columns)
    assert names_of(posts) == [["None", "peer", "works_for"]] * 2
    assert [p["relation"] for p in posts["train"][0]["pairs"]] == [2, 0]
    assert posts["test"][0]["pairs"] == [pair(1)]


def test_a_cut_of_the_posts_keeps_all_labels(load):
    posts = load({"train": [post(0, "None"), post(1, "peer")]}, COLUMNS, "--max_samples", "1")
    assert names_of(posts) == [["None", "peer"]] and len(posts["train"]) == 1


def test_a_models_labels_come_before_the_datas(load):
    labels = ["peer", "None", "works_for"]
    posts = load({"test": [post(0, "None")]}, COLUMNS, "--do_train", "false", labels=labels)
    assert names_of(posts) == [labels] and posts["test"][0]["pairs"][0]["relation"] == 1
    with pytest.raises(ValueError, match="split test, post 'p0'.*'pear'.*'peer'"):
        load({"test": [post(0, "pear")]}, COLUMNS, "--do_train", "false", labels=labels)


def test_without_a_train_split_all_splits_have_a_say(load):
    splits = {"validation": [post(0, "None")], "test": [post(1, "peer")]}
    assert names_of(load(splits, COLUMNS, "--do_train", "false")) == [["None", "peer"]] * 2


def test_relations_that_cannot_be_labels_are_named(load):
    with pytest.raises(ValueError, match=r"split test, post 'p9' \(row 1\).*'pear'.*did you mean 'peer'"):
        load({"train": [post()], "test": [post(8, "peer"), post(9, "None", "pear")]})
    with pytest.raises(ValueError, match=r"pairs\[\]\.relation: .*\['peer'\]"):
        load({"train": [post(0, "peer")]})
    with pytest.raises(ValueError, match=r"pairs\[\]\.relation: .*'NA', 'None'|pairs\[\]\.relation: .*'None', 'NA'"):
        load({"train": [post(0, "None", "NA")]})
    with pytest.raises(ValueError, match=r"pairs\[\]\.relation: .*--streaming.*strings"):
        load({"train": [post()], "test": [post()]}, COLUMNS, "--streaming", "true", "--max_steps", "1")


def of_pair(**kinds):
    return {"pairs": List(PAIR | kinds)}


# the columns' types, what a row then holds, the column that the message names, the type and what was expected
WRONG = [
    (of_pair(relation=Value("int64")), {"pairs": [pair(1)]}, "pairs[].relation", "int64", "a label"),
    (of_pair(relation=Value("float64")), {"pairs": [pair(1.0)]}, "pairs[].relation", "float64", "a label"),
    (of_pair(relation=Value("bool")), {"pairs": [pair(True)]}, "pairs[].relation", "bool", "a label"),
    (of_pair(relation=List(STRING)), {"pairs": [pair(["a"])]}, "pairs[].relation", "List", "a label"),
    (of_pair(head=STRING), {"pairs": [pair(head="Ann")]}, "pairs[].head", "string", "a list of whole numbers"),
    (of_pair(head={"start": INDEX}), {"pairs": [pair(head={"start": 0})]}, "pairs[].head", "start", "a list of whole"),
    (of_pair(head=List(Value("float64"))), {"pairs": [pair(head=[0.0, 1.0])]}, "pairs[].head[]", "float64", "whole"),
    (of_pair(tail=List(STRING)), {"pairs": [pair(tail=["a"])]}, "pairs[].tail[]", "string", "a whole number"),
    (of_pair(tail_object=STRING), {"pairs": [pair(tail_object="0")]}, "pairs[].tail_object", "string", "whole number"),
    (of_pair(text_phrases=SPAN), {"pairs": [pair(text_phrases=[1])]}, "pairs[].text_phrases[]", "int64", "a list"),
    (of_pair(objects=INDEX), {"pairs": [pair(objects=0)]}, "pairs[].objects", "int64", "a list of whole numbers"),
    ({"pairs": STRING}, {"pairs": "[]"}, "pairs", "string", "a list of dicts with head, tail"),
    ({"pairs": PAIR}, {"pairs": pair()}, "pairs", "{'head'", "a list of dicts"),
    ({"pairs": List(STRING)}, {"pairs": ["[]"]}, "pairs[]", "string", "a dict with head"),
    ({"tokens": STRING}, {"tokens": "Ann met Bob"}, "tokens", "string", "a list of strings"),
    ({"tokens": List(INDEX)}, {"tokens": [1, 2, 3]}, "tokens[]", "int64", "a string"),
    ({"tokens": List(List(STRING))}, {"tokens": [["Ann"]]}, "tokens[]", "List", "a string"),
    ({"id": INDEX}, {"id": 7}, "id", "int64", "a string"),
    ({"caption": List(STRING)}, {"caption": ["a"]}, "caption", "List", "a string"),
    ({"image_phrases": STRING}, {"image_phrases": "a"}, "image_phrases", "string", "a list of strings"),
    ({"image_id": INDEX}, {"image_id": 7}, "image_id", "int64", "a string"),
    ({"boxes": VECTOR}, {"boxes": [0, 1]}, "boxes[]", "float32", "a list of numbers"),
    ({"object_labels": List(INDEX)}, {"object_labels": [1]}, "object_labels[]", "int64", "a string"),
    ({"image_features": List(Value("float32"))}, {"image_features": [0, 1]}, "image_features", "List", "one length"),
    ({"image_features": STRING}, {"image_features": "[0]"}, "image_features", "string", "a list of numbers"),
    (FEATURES | {"object_features": List(List(FLOAT, length=3))}, {}, "object_features", "length=3", "one length"),
    (FEATURES | {"object_features": List(List(FLOAT))}, {}, "object_features", "float32", "one length"),
    (FEATURES | {"object_features": VECTOR}, {}, "object_features[]", "float32", "a list of numbers"),
    ({"object_features": List(VECTOR)}, {}, "object_features", "float32", "image_features"),
]  # fmt: skip


@pytest.mark.parametrize(("kinds", "fields", "column", "received", "expected"), WRONG)
def test_a_column_of_another_type_is_named(load, kinds, fields, column, received, expected):
    with pytest.raises(ValueError) as raised:
        load({"train": [post(**fields)]}, COLUMNS | kinds)
    message = str(raised.value)
    assert f"posts', split train, column {column}: " in message and message.count(". ") >= 1
    assert expected in message.split("received")[0] and received in message.split("received")[1]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(STRING, "a.png"), (Value("binary"), b"x"), ({"bytes": Value("binary"), "path": STRING}, {"path": "a"})],
)
def test_an_image_that_is_no_image_is_named(tmp_path, kind, value):
    rows = datasets.Dataset.from_list([post(image=value)], features=Features(COLUMNS | {"image": kind}))
    with pytest.raises(ValueError, match=r"here, split train, column image: expected an image.*cast_column"):
        ready_posts(datasets.DatasetDict(train=rows), "here")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("tokens", r"no \['tokens'\]"),
        ("pairs", r"no \['pairs'\]"),
        ("pairs.head", r"column pairs\[\]: .*no \['head'\]"),
        ("pairs.relation", r"column pairs\[\]: .*no \['relation'\]"),
    ],
)
def test_what_is_missing_is_named(load, missing, said):
    field = missing.partition(".")[2]
    columns = {name: kind for name, kind in COLUMNS.items() if name != missing}
    row = {name: value for name, value in post().items() if name in columns}
    if field:
        columns["pairs"] = List({name: kind for name, kind in PAIR.items() if name != field})
        row["pairs"] = [{name: value for name, value in of.items() if name != field} for of in row["pairs"]]
    with pytest.raises(ValueError, match=f"split train.*{said}"):
        load({"train": [row]}, columns)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (post(7) | {"id": None}, "id"),
        (post(7) | {"tokens": None}, "tokens"),
        (post(7) | {"tokens": ["Ann", None, "Bob"]}, "tokens[]"),
        (post(7) | {"pairs": None}, "pairs"),
        (post(7) | {"pairs": [pair(), None]}, "pairs[]"),
        (post(7) | {"pairs": [pair(), pair(head=None)]}, "pairs[].head"),
        (post(7) | {"pairs": [pair(head=[0, None])]}, "pairs[].head[]"),
        (post(7, "None", None), "pairs[].relation"),
    ],
)
def test_a_null_is_named_by_post_and_column(load, row, column):
    with pytest.raises(ValueError) as raised:
        load({"train": [post(0), post(1), row, post(2)]})
    name = "None" if column == "id" else "'p7'"
    assert f"split train, post {name} (row 2), column {column}: " in str(raised.value)
    assert "received null" in str(raised.value)


def of_ids(*posts_pairs):
    """A post of three tokens of each list of pairs, whose relations are the ids of two names."""
    kinds = [of_pair(relation=kind, tail_object=INDEX) for kind in (INDEX, ClassLabel(names=["None", "peer"]))]
    rows = [post(number) | {"pairs": pairs} for number, pairs in enumerate(posts_pairs)]
    made = datasets.Dataset.from_list(rows, features=Features(COLUMNS | kinds[0]))
    return made.cast(Features(COLUMNS | kinds[1]))


@pytest.mark.parametrize(
    ("pairs", "column", "received"),
    [
        ([], "pairs", "[]"),
        ([pair(1), pair(-1)], "pairs[].relation", "-1"),
        ([pair(1), pair(2)], "pairs[].relation", "2"),
        ([pair(1), pair(1, head=[0, 4])], "pairs[].head", "[0, 4]"),
        ([pair(1, head=[1, 1])], "pairs[].head", "[1, 1]"),
        ([pair(1, head=[-1, 2])], "pairs[].head", "[-1, 2]"),
        ([pair(1, head=[0, 1, 2])], "pairs[].head", "[0, 1, 2]"),
        ([pair(1, tail=[2, 4])], "pairs[].tail", "[2, 4]"),
        ([pair(1, tail=[2, None])], "pairs[].tail", "[2, None]"),
        ([pair(1, tail=[], tail_object=-1)], "pairs[].tail", "[]"),
        ([pair(1, tail=None)], "pairs[].tail", "None"),
        ([pair(1, tail_object=0)], "pairs[].tail", "[2, 3]"),
    ],
)
def test_a_post_that_no_model_can_answer_is_named(pairs, column, received):
    """In whatever split and chunk it is; tails that are objects have no span."""
    whole = of_ids([pair(1), pair(0, tail=[], tail_object=0)], [pair(0, tail=None, tail_object=3)])
    ready_posts(datasets.DatasetDict(train=whole), "here")
    splits = {"train": whole, "test": datasets.concatenate_datasets([whole, of_ids([pair(0)], pairs)])}
    with pytest.raises(ValueError) as raised:
        ready_posts(datasets.DatasetDict(splits), "here")
    message = str(raised.value)
    assert f"here, split test, post 'p1' (row 3), column {column}: " in message and f"received {received}. " in message


def test_a_stream_is_taken_as_it_is_and_its_evaluation_splits_are_checked(tmp_path):
    bad = of_ids([pair(-1)])
    for folder, splits in (("good", {"train": bad, "test": of_ids([pair(1)])}), ("bad", {"train": bad, "test": bad})):
        for split, rows in splits.items():
            rows.to_parquet(tmp_path / folder / f"{split}.parquet")
    flags = ["--cache_dir", str(tmp_path / "cache"), "--output_dir", str(tmp_path / "out"), "--do_train"]
    flags += ["--streaming", "true", "--max_steps", "1", "--dataset"]
    load_posts(*parse_arguments([*flags, str(tmp_path / "good")])[1:])
    with pytest.raises(ValueError, match=r"split test, post 'p0' \(row 0\), column pairs\[\].relation: .*-1"):
        load_posts(*parse_arguments([*flags, str(tmp_path / "bad")])[1:])


def test_nulls_that_mean_nothing_may_stay(load):
    row = post(0, caption=None, image_phrases=[])
    fields = {"objects": [], "text_phrases": None}
    row["pairs"] = [pair(tail=None, tail_object=0, **fields), pair("None", tail_object=-1, **fields)]
    kinds = of_pair(tail_object=INDEX, objects=List(Value("null")), text_phrases=Value("null"))
    kinds |= {"caption": Value("null")}
    kinds |= {"image_phrases": List(Value("null")), "tokens": LargeList(STRING)}
    assert load({"train": [row]}, COLUMNS | kinds)["train"][0]["pairs"][0]["tail"] is None


@pytest.mark.parametrize(
    ("choices", "said"),
    [(([], []), True), (([], None), False), (([], [0]), False), ((None, None), False)],
)
def test_pairs_that_all_choose_nothing_are_warned_of(load, caplog, choices, said):
    """Data of before have [] where nobody was asked."""
    row = post(0, image_phrases=["a wall"])
    row["pairs"] = [pair(image_phrases=choices[0]), pair("None", image_phrases=choices[1])]
    load({"train": [row]}, COLUMNS | of_pair(image_phrases=List(INDEX)) | {"image_phrases": List(STRING)})
    assert ("split train, column pairs[].image_phrases: [] for every pair" in caplog.text) == said


def test_splits_of_other_relations_are_named():
    splits = {}
    for split, names in (("train", ["None", "peer"]), ("test", ["peer", "None"])):
        features = Features(COLUMNS | of_pair(relation=ClassLabel(names=names)))
        splits[split] = datasets.Dataset.from_list([post()], features=features)
    with pytest.raises(ValueError, match=r"'train': \['None', 'peer'\], 'test': \['peer', 'None'\]"):
        ready_posts(datasets.DatasetDict(splits), "here")


@pytest.mark.parametrize(("relation", "said"), [(Value("int64"), "int64"), (STRING, "groups of posts")])
def test_the_audit_reads_such_a_folder_too(tmp_path, capsys, relation, said):
    rows = [post(0, 1) if relation.dtype == "int64" else post(0)]
    columns = COLUMNS | of_pair(relation=relation) | {"image_features": List(FLOAT)}  # which it looks at as they are
    made = datasets.Dataset.from_list([row | {"image_features": [0]} for row in rows], features=Features(columns))
    made.to_parquet(tmp_path / "posts" / "train.parquet")
    assert cli.main(["audit", str(tmp_path / "posts"), "--output_dir", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_a_run_on_strings_is_evaluated_and_browsed(workplace, tmp_path):
    """By every command that loads the run's posts; `vmhan evaluate` also where the test split has few relations."""
    config = str(workplace / "tiny.yaml")
    built = load_posts(*parse_arguments([config, "--output_dir", "x"])[1:])
    names = names_of(built)[0]
    columns = ["id", "tokens", "image_features", "boxes", "object_features", "pairs"]
    learned = {of["relation"] for pairs in built["train"]["pairs"] for of in pairs}
    for split, rows in built.items():
        features = rows.select_columns(columns).features.copy()
        features["pairs"].feature["relation"] = STRING
        strings = [
            row
            | {"pairs": [of | {"relation": names[of["relation"]]} for of in row["pairs"] if of["relation"] in learned]}
            for row in rows.select_columns(columns)
        ]
        for folder in ("posts", "alone") if split == "test" else ("posts",):
            made = datasets.Dataset.from_list(strings[:1] if folder == "alone" else strings, features=features)
            made.to_parquet(tmp_path / folder / f"{split}.parquet")
    flags = ["--dataset", str(tmp_path / "posts"), "--features=", "--num_train_epochs", "1"]
    metrics = run_mmre.main([config, "--output_dir", str(tmp_path / "run"), *flags])
    local = ["--dataset", str(tmp_path / "posts"), "--cache_dir", str(workplace / "cache")]
    again = ["evaluate", str(tmp_path / "run"), *local, "--use_cpu", "true"]
    assert cli.main([*again, "--output_dir", str(tmp_path / "again")]) == 0
    scores = [json.loads((tmp_path / name / "metrics.json").read_text())["test_f1"] for name in ("run", "again")]
    assert scores == [metrics["test_f1"]] * 2
    again[3] = str(tmp_path / "alone")
    assert cli.main([*again, "--output_dir", str(tmp_path / "alone out")]) == 0
    page = ["browse", str(tmp_path / "run"), "--output", str(tmp_path / "page.html"), "--show", "posts", *local]
    assert cli.main(page) == 0
    assert cli.main(["visual-share", str(tmp_path / "run"), "--shares", "1", *local]) == 0
