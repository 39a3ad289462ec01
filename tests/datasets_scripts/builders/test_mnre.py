"""The MNRE builder on folders written here in the exact formats, and on the real files where they are at hand."""

import codecs
import functools
import json

import pytest
from more_files import write
from paths import MNRE_DATA
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.mnre import MNRE, MNRE_LABELS, SYMMETRIC, MNREConfig, read_captions
from datasets_scripts.leaks import OFFICIAL, ORDER_BLIND, leak_record, protocol_of
from datasets_scripts.schema import new_pair
from datasets_scripts.splits import differing_splits


RESIDENCE = "/per/loc/place_of_residence"
TOKENS = ["RT", "@a", ":", "David", "Bowie", "in", "London", "&amp;", "Paris"]


def fact(**changes):
    """One line of MNRE-2."""
    mentions = {"h": {"name": "David Bowie", "pos": [3, 5]}, "t": {"name": "London", "pos": [6, 7]}}
    return str({"token": TOKENS, **mentions, "img_id": "1.jpg", "relation": RESIDENCE, **changes})


@pytest.fixture
def folder(tmp_path):
    """The authors' layout with a train and a validation split (the file name with a space), no test split."""
    paris = {"name": "Paris", "pos": [8, 9]}
    write(
        tmp_path / "mnre" / "mnre_txt" / "mnre_train.txt",
        fact(),
        fact(img_id="2.jpg", relation="None"),
        fact(t=paris, relation="None"),  # back to the first post
        fact(),  # a duplicate line
    )
    write(tmp_path / "mnre" / "mnre_txt" / "mnre_val .txt", fact(img_id="3.jpg"))
    return tmp_path / "mnre"


@pytest.fixture
def load(folder):
    """`load(config_name=, data_dir=, **fields)`: the posts of `folder`, or of another one."""
    return functools.partial(build, MNRE, config_name="mnre", data_dir=folder)


def test_rows_are_posts_with_all_their_pairs_in_file_order(load):
    dataset = load()
    assert list(dataset) == ["train", "validation"]
    first, second = dataset["train"]
    assert (first["image_id"], second["image_id"], first["tokens"]) == ("1.jpg", "2.jpg", TOKENS)
    labels = dataset["train"].features["pairs"].feature["relation"]
    assert labels.names == MNRE_LABELS
    assert labels.int2str([pair["relation"] for pair in first["pairs"]]) == [RESIDENCE, "None", RESIDENCE]
    assert first["pairs"][1] == new_pair([3, 5], [8, 9], MNRE_LABELS.index("None"))
    assert (first["boxes"], first["object_labels"], first["caption"], first["image_phrases"]) == ([], [], None, [])
    assert "image" not in dataset["train"].features
    ids = [post["id"] for split in dataset.values() for post in split]
    assert ids == ["train-0", "train-1", "validation-0"]


@pytest.mark.parametrize(("config_name", "none"), [("mnre_order_blind", "None"), ("mnre_v1_order_blind", "none")])
def test_order_blind_puts_pairs_in_text_order_and_keeps_the_direction_in_the_label(load, tmp_path, config_name, none):
    london, paris = {"name": "London", "pos": [6, 7]}, {"name": "Paris", "pos": [8, 9]}
    lines = [
        fact(h=london, t={"name": "David Bowie", "pos": [3, 5]}),
        fact(h=paris, t=london, relation=none),
        fact(h=paris, t=london, relation="/per/per/peer"),
        fact(),
    ]
    write(tmp_path / "other" / "mnre_txt" / "mnre_train.txt", *lines)
    official = load(config_name=config_name.removesuffix("_order_blind"), data_dir=tmp_path / "other")["train"]
    blind = load(config_name=config_name, data_dir=tmp_path / "other")["train"]
    labels = blind.features["pairs"].feature["relation"].names
    names = official.features["pairs"].feature["relation"].names
    assert labels[: len(names)] == names  # ids stay
    assert labels[len(names) :] == [f"{name} (inverse)" for name in names if name not in (none, *SYMMETRIC)]
    found = [(pair["head"], pair["tail"], labels[pair["relation"]]) for pair in blind[0]["pairs"]]
    assert found == [
        ([3, 5], [6, 7], f"{RESIDENCE} (inverse)"),
        ([6, 7], [8, 9], none),
        ([6, 7], [8, 9], "/per/per/peer"),
        ([3, 5], [6, 7], RESIDENCE),
    ]
    assert (protocol_of(official), protocol_of(blind)) == (OFFICIAL, ORDER_BLIND)
    assert leak_record(official) == {"leaky": False, "protocol": OFFICIAL}


def test_peer_layout_takes_the_label_order_of_its_file(load, tmp_path):
    folder = tmp_path / "peer"
    write(folder / "txt" / "ours_test.txt", fact())
    write(folder / "ours_rel2id.json", json.dumps({RESIDENCE: 0, "None": 1}))
    dataset = load(data_dir=folder)
    assert list(dataset) == ["test"]
    assert dataset["test"].features["pairs"].feature["relation"].names == [RESIDENCE, "None"]


def test_version_1_collects_labels_none_first_and_takes_int_image_ids(load, tmp_path):
    folder = tmp_path / "v1"
    write(folder / "mnre_txt" / "mnre_train.txt", fact(relation="/a/b", img_id=17), fact(relation="none", img_id=17))
    write(folder / "mnre_txt" / "mnre_test.txt", fact(relation="/A/first"))
    dataset = load(config_name="mnre_v1", data_dir=folder)
    assert dataset["train"].features["pairs"].feature["relation"].names == ["none", "/A/first", "/a/b"]
    assert dataset["train"][0]["image_id"] == "17"


def test_images_are_used_if_there_and_counted_if_missing(folder, load, caplog):
    (folder / "img_org" / "train").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(folder / "img_org" / "train" / "1.jpg")
    dataset = load()
    assert dataset["train"][0]["image"].size == (8, 6)
    assert dataset["train"][1]["image"] is None and dataset["validation"][0]["image"] is None
    assert "1 of 2 images of train" in caplog.text
    assert "image" not in load(images=False)["train"].features


def test_captions_by_source_name(folder, load, caplog):
    write(folder / "mnre_txt" / "mnre_test.txt", fact())
    captions = [{"img_id": "1.jpg", "text": "\nA man on a red carpet. "}, {"img_id": "2.jpg", "text": " \n"}]
    write(folder / "captions" / "vlm_train.txt", *captions)
    write(folder / "captions" / "vlm_val.txt", {"img_id": "other.jpg", "text": "A dog"})
    for empty in ("", "\n"):  # the test split is to have none, and says so
        (folder / "captions" / "vlm_test.txt").write_text(empty)
        dataset = load(captions="vlm", max_phrases=1)
    assert dataset["train"]["caption"][:] == ["A man on a red carpet.", None]
    assert dataset["train"]["image_phrases"][:] == [["man"], []]
    assert dataset["validation"][0]["caption"] is dataset["test"][0]["caption"] is None
    assert all(f"1 of 1 captions of {split}" in caplog.text for split in ("validation", "test"))
    write(folder / "captions" / "vlm_test.txt", {"img_id": "1.jpg", "text": "A cat"})
    assert load(captions="vlm")["test"][0]["caption"] == "A cat"


def test_captions_of_several_stand_one_behind_the_other(folder, load):
    captions = {"first": "A man on a carpet.", "second": "A red tie"}
    for name, text in captions.items():
        write(folder / "captions" / f"{name}_train.txt", {"img_id": "1.jpg", "text": text})
        write(folder / "captions" / f"{name}_val.txt", CAPTION if name == "second" else "")
    dataset = load(captions="first+second")
    assert dataset["train"]["caption"][:] == ["A man on a carpet. A red tie", None]
    assert dataset["train"]["image_phrases"][0] == ["man", "carpet", "red tie"]
    assert dataset["validation"][0]["caption"] == load(captions="second")["validation"][0]["caption"]


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_captions_that_one_split_lacks_are_an_error_that_names_the_file(folder, load, missing):
    write(folder / "mnre_txt" / "mnre_test.txt", fact())
    for split in {"train", "val", "test"} - {missing}:
        write(folder / "captions" / f"vlm_{split}.txt", CAPTION)
    with pytest.raises(FileNotFoundError, match=f"captions: .*captions/vlm_{missing}.txt.*empty file"):
        load(captions="vlm")


def test_byte_order_marks_are_not_read(folder, load):
    labels = write(folder / "ours_rel2id.json", json.dumps({label: i for i, label in enumerate(MNRE_LABELS)}))
    captions = write(folder / "captions" / "vlm_train.txt", {"img_id": "1.jpg", "text": "A dog"})
    write(folder / "captions" / "vlm_val.txt", CAPTION)
    for path in (*(folder / "mnre_txt").iterdir(), labels, captions):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(captions="vlm")["train"][0]["image_phrases"] == ["dog"]


@pytest.mark.parametrize(("encoding", "line", "byte"), [("latin-1", 3, "0xe9"), ("utf-16", 1, "0xff")])
@pytest.mark.parametrize("name", ["mnre_txt/mnre_train.txt", "captions/vlm_train.txt", "ours_rel2id.json"])
def test_other_bytes_than_utf8_name_file_and_line(folder, load, name, encoding, line, byte):
    write(folder / "captions" / "vlm_train.txt", CAPTION)
    write(folder / name).write_bytes("\n\nA café\n".encode(encoding))
    with pytest.raises(ValueError, match=f"{name}, line {line}: .*{byte}"):
        load(captions="vlm")


CAPTION = {"img_id": "1.jpg", "text": "a"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'token': [", ": .*token"),
        ("__import__('os').getcwd()", ": .*__import__"),
        ("['token']", r": .*\['token'\]"),
        ("{'token': ['a']}", ": .*'h'"),
        (fact(token="a b"), ", field 'token': .*'a b'"),
        (fact(token=["a", 1]), r", field 'token\[1\]': .*1"),
        (fact(h="David"), ", field 'h': .*'David'"),
        (fact(h={"name": "x", "pos": [0, "1"]}), r", field 'h.pos.1.': .*'1'"),
        (fact(h={"name": "x", "pos": [0]}), r", field 'h.pos': .*\[0\]"),
        (fact(t={"name": "x", "pos": [8, 10]}), r", field 't.pos': .*9 tokens.*\[8, 10\)"),
        (fact(t={"name": "", "pos": [3, 3]}), r", field 't.pos': .*\[3, 3\)"),
        (fact(img_id=None), ", field 'img_id': .*None"),
        (fact(relation="none"), ", field 'relation': .*'None'.* 'none'.*mnre_v1"),
        (CAPTION | {"text": 3}, ", field 'text': .*3"),
        ({"img_id": "1.jpg"}, ": .*'text'"),
        (CAPTION | {"text": "b"}, ", field 'img_id': '1.jpg'"),
    ],
)
def test_malformed_lines_name_file_line_and_field(tmp_path, line, message):
    is_caption = "img_id" in line and isinstance(line, dict)
    path = write(tmp_path / "lines.txt", CAPTION if is_caption else fact(), "", line)
    with pytest.raises(ValueError, match=f"lines.txt, line 3{message}"):
        read_captions(path) if is_caption else list(read_facts(path, labels=MNRE_LABELS))


def test_a_wrong_name_and_a_missing_split_only_warn(folder, load, caplog):
    write(folder / "mnre_txt" / "mnre_train.txt", fact(h={"name": "Bowie", "pos": [3, 5]}))
    assert load()["train"][0]["pairs"][0]["head"] == [3, 5]
    assert "mnre_train.txt, line 1" in caplog.text and "no test split" in caplog.text


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"data_dir": None}, ValueError, "data_dir: .*None.*by hand"),
        ({"data_dir": "nowhere"}, FileNotFoundError, "data_dir: .*nowhere.*by hand"),
        ({"data_dir": "."}, FileNotFoundError, r"mnre_val \.txt.*ours_test\.txt.*by hand"),
        ({"images": True}, FileNotFoundError, "images=True: .*img_org/train.*Google Drive"),
        ({"images": "yes"}, ValueError, "images: .*'yes'"),
        ({"captions": "nobody"}, FileNotFoundError, "captions: .*nobody_train.txt"),
        ({"captions": "nobody+vlm"}, FileNotFoundError, "captions: .*nobody_train.txt"),
        ({"captions": "vlm+"}, ValueError, "captions: .*''"),
        ({"captions": 3}, ValueError, "captions: .*3"),
        ({"max_phrases": -1}, ValueError, "max_phrases: .*-1"),
        ({"max_phrases": "3"}, ValueError, "max_phrases: .*'3'"),
        ({"phrase_text": True}, ValueError, "phrase_text: .*True.*'mnre'"),
    ],
)
def test_what_cannot_be_had_and_fields_out_of_range(load, tmp_path, monkeypatch, fields, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load(**fields)


@pytest.mark.parametrize(
    ("name", "content", "config_name"),
    [
        *(("ours_rel2id.json", text, "mnre") for text in ('{"None": 1}', '{"None": 0, "a": "x"}', '["a", "a"]')),
        *(("ours_rel2id.json", text, "mnre") for text in ("[1]", "None")),
        ("mnre_txt/mnre_val .txt", "", "mnre"),
        ("mnre_txt/mnre_val .txt", " \n\n", "mnre_v1"),
    ],
)
def test_bad_label_files_and_splits_without_records(folder, load, name, content, config_name):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        load(config_name=config_name)


def test_leaky_files_are_never_opened(folder, load):
    """They are junk here, so that reading them would fail; nor do they count as input."""
    before = load()["train"].cache_files
    for name in ("mre_train_dict.pth", "phrase_text_train.json", "txt/mre_train_dict.pth", "txt/phrase_text_val.json"):
        write(folder / name, "junk").chmod(0)
    config = MNREConfig(version="2.0.0", data_dir=str(folder))
    assert {path.name for path in MNRE.source_files(config)} == {"mnre_train.txt", "mnre_val .txt"}
    assert load()["train"].cache_files == before


@pytest.mark.skipif(not MNRE_DATA.is_dir(), reason=f"the real MNRE files are not at {MNRE_DATA}")
def test_the_real_files(tmp_path, caplog):
    fields = {"captions": "llava_next", "images": False}
    real = build(MNRE, config_name="mnre", data_dir=MNRE_DATA, **fields)
    assert "mentions are not named" not in caplog.text  # every name equals its span's text
    assert {name: len(split) for name, split in real.items()} == {"train": 7356, "validation": 931}
    pairs = {name: sum(map(len, split["pairs"])) for name, split in real.items()}
    assert pairs == {"train": 12247, "validation": 1624} and max(map(len, real["train"]["pairs"])) == 21
    assert real["train"].features["pairs"].feature["relation"].names == MNRE_LABELS
    post = real["validation"][0]
    assert post["image_phrases"] and all(phrase in post["caption"] for phrase in post["image_phrases"])
    for splits in (real, {name: split.take(50) for name, split in real.items()}):
        assert differing_splits(splits) == []
