"""The leak audit catches what the published files do, and passes what honest builds do; files, exit codes, errors."""

import json
import random
import sys

import datasets
import numpy as np
import pytest
from audits import QUICK, audit, leaks, row_of
from PIL import Image
from published_files import write_mnre

from datasets_scripts.audit.command import audit_files, audit_table, main
from datasets_scripts.audit.table import table_of_split
from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.commands import run_command
from datasets_scripts.leaks import leak_status
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph


FLAGS = ["--draws", "200", "--folds", "2"]
VECTOR = 16


def run_audit(*argv):
    """The exit code of the command with this line of arguments."""
    return run_command("audit", lambda: main([str(argument) for argument in argv]))


def posts(change=None, num_posts=80, seed=0):
    """Honest posts of up to three pairs; `change(post, rng)` may spoil each. Pixels tell the relation, by design."""
    rng = random.Random(seed)
    rows = []
    for index in range(num_posts):
        noise, pairs, features = np.random.default_rng(index), [], []
        for i, (head, tail) in enumerate(rng.sample([(0, 1), (0, 2), (1, 2)], rng.randint(1, 3))):
            relation = rng.choices([0, 1, 2], weights=[5, 3, 2])[0]
            phrases = [f"thing{rng.randrange(40)} thing{rng.randrange(40)}" for _ in range(rng.randint(0, 2))]
            nodes = {"text_phrases": [[0, rng.randint(1, 3)]], "objects": [i], "image_phrases": phrases}
            pairs.append(new_pair([head, head + 1], [tail, tail + 1], relation, **nodes))
            features.append(np.eye(VECTOR)[relation] + noise.normal(0, 0.1, VECTOR))
        features += [*noise.normal(0, 1, (2, VECTOR))]
        boxes = [[10 * i, 0, 10 * i + rng.randint(5, 9), rng.randint(5, 50)] for i in range(len(features))]
        of_image = {"boxes": boxes, "object_labels": [rng.choice(["person", "dog"]) for _ in boxes], "image": None}
        of_image |= {"image_features": features[-1], "object_features": features}
        of_image["caption"] = "a thing" * rng.randint(0, 2)
        names = [f"Ann{index}", f"Bob{index}", f"Org{index}"]
        rows.append(new_post(f"train-{index}", names, f"{index}.jpg", pairs, **of_image))
        if change:
            change(rows[-1], rng)
    columns = post_features(["None", "peer", "member"], images=True, visual_feature_size=VECTOR)
    columns["pairs"].feature["image_phrases"] = datasets.List(datasets.Value("string"))
    columns |= {name: datasets.Value("int32") for name in rows[0] if name not in columns}
    return datasets.Dataset.from_list([with_hypergraph(row) for row in rows], features=datasets.Features(columns))


def test_honest_posts_pass_though_the_pixels_tell_everything():
    report = audit(posts())
    assert leaks(report) == (set(), set()) and not report["failed"]
    row = row_of(report, "pairs.objects -> object_features", "of the first", "relation")
    assert row["share"] > 0.9 and row["notable"] and not row["failed"]


def in_pairs(name, of_relation):
    """A change that gives each pair the value of its relation as `name`."""

    def change(post, rng):
        for pair in post["pairs"]:
            pair[name] = of_relation(post, pair)

    return change


def words_and_types(post, pair):
    names = [post["tokens"][pair[side][0]] for side in ("head", "tail")]
    return [" ".join([*names, *["", "person person", "person group"][pair["relation"]].split()])]


OF_BOXES = ("boxes", "object_labels", "object_features")
fewer_text_phrases = in_pairs("text_phrases", lambda post, pair: [] if pair["relation"] else pair["text_phrases"])
more_objects = in_pairs("objects", lambda post, pair: [*range(len(post["boxes"]) if pair["relation"] else 1)])
longer_phrases = in_pairs("text_phrases", lambda post, pair: [[0, 3 if pair["relation"] else 1]])


def in_post(of_label):
    """A change that leaves one pair, and puts into the post what its label is given: 1 if it is positive, else 0."""

    def change(post, rng):
        post["pairs"] = post["pairs"][:1]
        post |= of_label(post, int(post["pairs"][0]["relation"] > 0), rng)

    return change


@pytest.mark.parametrize(
    ("change", "field", "aspect"),
    [
        (more_objects, "pairs.objects", "count"),
        (fewer_text_phrases, "pairs.text_phrases", "count"),
        (longer_phrases, "pairs.text_phrases", "length"),
        (in_pairs("image_phrases", words_and_types), "pairs.image_phrases", "words beyond the pair's own, as a code"),
        (in_post(lambda post, y, rng: {"image": Image.new("RGB", (8, 8)) if y else None}), "image", "present"),
        (in_post(lambda post, y, rng: {"image": Image.new("RGB", (8 + 8 * y, 8))}), "image", "size and format"),
        (in_post(lambda post, y, rng: {} if y else {"image_features": None}), "image_features", "present"),
        (in_post(lambda post, y, rng: {name: post[name][: 1 + y] for name in OF_BOXES}), "boxes", "count"),
        (in_post(lambda post, y, rng: {"id": post["id"] + "yx"[y]}), "id", "characters"),
        (
            in_post(lambda post, y, rng: {"image_id": f"{rng.randint(1, 9**6) + 9**6 * y}"}),
            "image_id",
            "numbers in it",
        ),
        (in_post(lambda post, y, rng: {"score": 10 * y + rng.randint(0, 2)}), "score", "value"),
    ],
)
def test_each_way_to_give_the_label_away_is_caught(change, field, aspect):
    report = audit(posts(change), [field if "." not in field else "image_id"])
    assert (field, aspect, "none or positive") in leaks(report)[0]
    assert row_of(report, field, aspect)["share_interval"][0] > 0.5


def test_posts_sorted_by_label_are_caught():
    rows = posts(in_post(lambda post, y, rng: {}))
    order = sorted(range(len(rows)), key=lambda i: rows[i]["pairs"][0]["relation"])
    failed, _ = leaks(audit(rows.select(order), ["image_id"]))
    assert ("row of the post", "value", "relation") in failed


def two_lists_of_boxes(rows):
    rows[1] |= {"image_id": "0.jpg", "tokens": ["Other"] * 3}


def two_phrases(rows):
    rows[0]["pairs"] = [rows[0]["pairs"][0] | {"image_phrases": [phrase]} for phrase in ("one", "two")]


def pointing(*objects):
    return lambda rows: rows[3]["pairs"][0].update(objects=objects)


@pytest.mark.parametrize(
    ("change", "fields", "rule"),
    [
        (two_lists_of_boxes, ["boxes", "object_features"], "one image, one value"),
        (two_phrases, ["pairs.image_phrases"], "one sentence, image and pair of mentions, one value"),
        *((pointing(*wrong), ["pairs.objects"], "distinct indices of boxes") for wrong in ([9], [0, 0], [-1])),
    ],
)
def test_a_broken_invariant_is_caught_whatever_the_probes_find(change, fields, rule):
    honest = posts()
    rows = honest.to_list()
    change(rows)
    changed = datasets.Dataset.from_list(rows, features=honest.features)
    found = leaks(audit(changed, ["image_id", "boxes", "object_features"]))[1]
    assert {field for field, broken in found if broken == rule} >= {*fields}


def test_few_posts_are_judged_by_the_invariants_only():
    with pytest.raises(ValueError, match=r"\b30\b.*\{'train': 20\}"):
        audit(posts(more_objects, num_posts=20))
    report = audit(posts(in_pairs("objects", lambda post, pair: [99]), num_posts=20))
    assert report["failed"] and report["splits"]["train"]["views"] == []


def test_the_threshold_decides():
    rows = posts(lambda post, rng: rng.random() < 0.5 and fewer_text_phrases(post, rng))
    share = row_of(audit(rows, ["image_id"]), "pairs.text_phrases", "count")["share_interval"][0]
    assert 0.1 < share < 0.9
    assert audit(rows, ["image_id"], threshold=share - 0.01)["failed"]
    assert not audit(rows, ["image_id"], threshold=share + 0.01)["failed"]


def labelled(names, relation=0):
    """One post with a pair of this relation."""
    features = post_features(names, images=False, visual_feature_size=None)
    post = new_post("a", ["a", "b"], "", [new_pair([0, 1], [1, 2], relation)])
    return datasets.Dataset.from_list([with_hypergraph(post)], features=features)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (lambda: datasets.Dataset.from_dict({"tokens": [["a"]]}), {}, r"\['pairs'\]"),
        (lambda: posts().select([]), {}, "none"),
        (lambda: labelled(["None"], relation=None), {}, "relation"),
        (lambda: labelled(["peer"]), {}, "none label"),
        *((posts, {"folds": value}, f"folds: .*{value}") for value in (1, 81)),
        (posts, {"threshold": 1.0}, "threshold: .*1.0"),
        (posts, {"draws": 10}, "draws: .*10"),
    ],
)
def test_rows_that_are_no_labelled_posts_and_options_out_of_range(rows, options, message):
    with pytest.raises(ValueError, match=message):
        audit_table(table_of_split(rows()), **options)


@pytest.fixture
def published(tmp_path):
    return write_mnre(tmp_path / "leaky")


def test_loose_files_fail_by_count_and_by_type_suffix(published, tmp_path, capsys):
    text, crops, phrases = published
    out = tmp_path / "out"
    assert run_audit("--auxiliary", crops, phrases, "--annotations", text, "--output_dir", out, *FLAGS) == 1
    report = json.loads((out / "audit.json").read_text())
    assert row_of(report, "mre_train_dict.pth", "count")["accuracy"] == 1
    suffix = row_of(report, "phrase_text_train.json", "words beyond the pair's own, as a code", "relation")
    assert (suffix["accuracy"], suffix["f1"]) == (1, 1)
    assert leaks(report)[1] == {("mre_train_dict.pth", "one image, one value")}
    assert "**LEAK**" in (page := (out / "audit.md").read_text()) and page in capsys.readouterr().out
    with Image.open(out / "audit_mnre_train.png") as picture:
        assert picture.width > 1000


def test_honest_loose_files_pass(tmp_path):
    text, crops, phrases = write_mnre(tmp_path / "honest", leaky=False)
    assert leaks(audit_files([crops, phrases], text, **QUICK)) == (set(), set())


@pytest.mark.parametrize(
    "flags", ["", "d --auxiliary a", "--auxiliary a", "--annotations a", "--config c --auxiliary a --annotations b"]
)
def test_flags_that_do_not_go_together(flags):
    with pytest.raises(SystemExit) as exit:
        main(flags.split())
    assert exit.value.code == 2


def save(splits, folder, name):
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        rows.to_parquet(folder / name / f"{split}.parquet")
    files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits]
    card = datasets.info.DatasetCardData(configs=[{"config_name": name, "data_files": files}])
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n")
    return str(folder)


@pytest.mark.parametrize(
    ("config", "fields", "leaky"),
    [
        ("mnre", {}, set()),
        ("mnre_published_objects", {}, {"pairs.crops"}),
        ("mnre_published_objects", {"phrase_text": True}, {"pairs.crops", "pairs.image_phrases"}),
    ],
)
def test_builds_of_mnre_as_published_folders(published, tmp_path, config, fields, leaky):
    built = build(MNRE, config_name=config, data_dir=tmp_path / "leaky", **fields)
    folder, out = save(built, tmp_path / "hub", config), tmp_path / "out"
    assert run_audit(folder, "--config", config, "--output_dir", out, *FLAGS) == bool(leaky)
    report = json.loads((out / "audit.json").read_text())
    assert report["failed"] == bool(report["marked_leaky"]) == bool(leak_status(built)) == bool(leaky)
    assert {field for field, _, task in leaks(report)[0] if task == "none or positive"} == leaky


def test_bad_input_exits_with_2(published, tmp_path, capsys):
    folder = save({"train": posts(num_posts=5)}, tmp_path / "hub", "few")
    (tmp_path / "empty").mkdir()
    text, crops, _ = published
    for arguments, message in (
        ([folder, "--config", "nope"], "'nope'"),
        ([folder], "30 groups"),
        ([tmp_path / "nowhere"], "nowhere"),
        ([tmp_path / "empty"], "empty"),
        (["--auxiliary", tmp_path / "gone.pth", "--annotations", text], "gone.pth"),
        (["--auxiliary", crops, "--annotations", tmp_path / "gone.txt"], "gone.txt"),
        (["--auxiliary", text, "--annotations", text], "mnre_train.txt"),
    ):
        assert run_audit(*arguments, "--output_dir", tmp_path / "out") == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_picture_without_matplotlib_says_what_to_install(published, monkeypatch, capsys, tmp_path):
    monkeypatch.delitem(sys.modules, "datasets_scripts.audit.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text, crops, _ = published
    assert run_audit("--auxiliary", crops, "--annotations", text, "--output_dir", tmp_path / "out", *FLAGS) == 2
    assert "pip install 'vmhan[report]'" in capsys.readouterr().err
