"""The MNRE builder on folders written here in the exact formats, and on the real files where they are at hand."""

import codecs
import json
import re

import pytest
from more_files import write
from paths import MNRE_DATA
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.mnre import MNRE, MNRE_LABELS, MNREConfig, read_captions


RESIDENCE = "/per/loc/place_of_residence"
TOKENS = ["RT", "@a", ":", "David", "Bowie", "in", "London", "&amp;", "Paris"]


def fact(**changes):
    """One line of MNRE-2."""
    record = {
        "token": TOKENS,
        "h": {"name": "David Bowie", "pos": [3, 5]},
        "t": {"name": "London", "pos": [6, 7]},
        "img_id": "1.jpg",
        "relation": RESIDENCE,
    }
    return str(record | changes)


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
def load(folder, tmp_path):
    """`load(config_name, data_dir=, **fields)`: the posts of `folder`, or of another one."""

    def built(config_name="mnre", data_dir=folder, **fields):
        return build(MNRE, config_name=config_name, data_dir=data_dir, cache_dir=tmp_path / "cache", **fields)

    return built


def test_rows_are_posts_with_all_their_pairs_in_file_order(folder, load):
    dataset = load()
    assert list(dataset) == ["train", "validation"]
    first, second = dataset["train"]
    assert (first["image_id"], second["image_id"]) == ("1.jpg", "2.jpg")
    assert first["tokens"] == TOKENS
    labels = dataset["train"].features["pairs"].feature["relation"]
    assert labels.names == MNRE_LABELS
    _, none, _ = pairs = first["pairs"]
    assert labels.int2str([pair["relation"] for pair in pairs]) == [RESIDENCE, "None", RESIDENCE]
    assert (none["head"], none["tail"], none["tail_object"]) == ([3, 5], [8, 9], -1)
    assert all(none[field] == [] for field in ("text_phrases", "image_phrases", "objects"))
    assert (first["boxes"], first["object_labels"], first["caption"], first["image_phrases"]) == ([], [], None, [])
    assert "image" not in dataset["train"].features
    ids = [post["id"] for split in dataset.values() for post in split]
    assert ids == ["train-0", "train-1", "validation-0"]


def test_peer_layout_takes_the_label_order_of_its_file(load, tmp_path):
    folder = tmp_path / "peer"
    write(folder / "txt" / "ours_test.txt", fact())
    labels = [RESIDENCE, "None"]
    write(folder / "ours_rel2id.json", json.dumps({label: index for index, label in enumerate(labels)}))
    dataset = load(data_dir=folder)
    assert list(dataset) == ["test"]
    assert dataset["test"].features["pairs"].feature["relation"].names == labels


def test_version_1_collects_labels_none_first_and_takes_int_image_ids(load, tmp_path):
    folder = tmp_path / "v1"
    write(folder / "mnre_txt" / "mnre_train.txt", fact(relation="/a/b", img_id=17), fact(relation="none", img_id=17))
    write(folder / "mnre_txt" / "mnre_test.txt", fact(relation="/A/first"))
    dataset = load("mnre_v1", data_dir=folder)
    assert dataset["train"].features["pairs"].feature["relation"].names == ["none", "/A/first", "/a/b"]
    assert dataset["train"][0]["image_id"] == "17"


def test_images_are_used_if_there_and_counted_if_missing(folder, load, caplog):
    (folder / "img_org" / "train").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(folder / "img_org" / "train" / "1.jpg")
    dataset = load()
    assert dataset["train"][0]["image"].size == (8, 6)
    assert dataset["train"][1]["image"] is None
    assert dataset["validation"][0]["image"] is None
    assert "1 of 2 images of train are not in" in caplog.text
    assert "image" not in load(images=False)["train"].features


def test_captions_by_source_name(folder, load, caplog):
    captions = [{"img_id": "1.jpg", "text": "\nA man on a red carpet. "}, {"img_id": "2.jpg", "text": " \n"}]
    write(folder / "captions" / "vlm_train.txt", *captions)
    write(folder / "captions" / "vlm_val.txt", {"img_id": "other.jpg", "text": "A dog"})
    dataset = load(captions="vlm", max_phrases=1)
    assert dataset["train"]["caption"][:] == ["A man on a red carpet.", None]
    assert dataset["train"]["image_phrases"][:] == [["man"], []]
    assert dataset["validation"][0]["caption"] is None
    assert "1 of 1 captions of validation are not in" in caplog.text


def test_a_split_without_the_file_of_a_source_is_built_without_captions(folder, load, caplog):
    write(folder / "mnre_txt" / "mnre_test.txt", fact())
    for stem in ("train", "val"):
        write(folder / "captions" / f"vlm_{stem}.txt", *({"img_id": f"{i}.jpg", "text": "A dog"} for i in (1, 2, 3)))
    dataset = load(captions="vlm")
    assert [dataset[split][0]["image_phrases"] for split in dataset] == [["dog"], ["dog"], []]
    assert dataset["test"][0]["caption"] is None
    assert "captions of test" in caplog.text and "captions of train" not in caplog.text
    write(folder / "captions" / "vlm_test.txt", {"img_id": "1.jpg", "text": "A cat"})
    assert load(captions="vlm")["test"][0]["caption"] == "A cat"


def test_byte_order_marks_are_not_read(folder, load):
    labels = json.dumps({label: index for index, label in enumerate(MNRE_LABELS)})
    paths = [folder / "mnre_txt" / "mnre_train.txt", folder / "mnre_txt" / "mnre_val .txt"]
    paths += [write(folder / "ours_rel2id.json", labels)]
    paths += [write(folder / "captions" / "vlm_train.txt", {"img_id": "1.jpg", "text": "A dog"})]
    for path in paths:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(captions="vlm")["train"][0]["image_phrases"] == ["dog"]


@pytest.mark.parametrize(("config_name", "content"), [("mnre", ""), ("mnre", " \n\n"), ("mnre_v1", "\n")])
def test_a_split_without_records_is_an_error_that_names_its_file(folder, load, config_name, content):
    (folder / "mnre_txt" / "mnre_val .txt").write_text(content)
    with pytest.raises(ValueError, match=r"mnre_val \.txt: "):
        load(config_name)


@pytest.mark.parametrize(("encoding", "line", "byte"), [("latin-1", 3, "0xe9"), ("utf-16", 1, "0xff")])
@pytest.mark.parametrize("name", ["mnre_txt/mnre_train.txt", "captions/vlm_train.txt", "ours_rel2id.json"])
def test_other_bytes_than_utf8_name_file_and_line(folder, load, name, encoding, line, byte):
    write(folder / "captions" / "vlm_train.txt", {"img_id": "1.jpg", "text": "A dog"})
    path = write(folder / name, "", "", {"img_id": "1.jpg", "text": "A café"})
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    with pytest.raises(ValueError, match=f"{name}, line {line}: .*{byte}"):
        load(captions="vlm")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"img_id": "1.jpg", "text": 3}], "line 1, field 'text': .*3"),
        ([{"img_id": "1.jpg"}], "line 1: .*'text'"),
        ([{"img_id": 1, "text": "a"}, {"img_id": 1, "text": "b"}], "line 2, field 'img_id': '1'"),
    ],
)
def test_malformed_captions_name_line_and_field(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_captions(write(tmp_path / "captions.txt", *lines))


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
        (fact(h={"name": "x", "pos": [0, True]}), r", field 'h.pos.1.': .*True"),
        (fact(h={"name": "x", "pos": [0]}), r", field 'h.pos': .*\[0\]"),
        (fact(t={"name": "x", "pos": [8, 10]}), r", field 't.pos': .*9 tokens.*\[8, 10\)"),
        (fact(t={"name": "", "pos": [3, 3]}), r", field 't.pos': .*\[3, 3\)"),
        (fact(img_id=None), ", field 'img_id': .*None"),
        (fact(relation="none"), ", field 'relation': .*'None'.* 'none'.*mnre_v1"),
    ],
)
def test_malformed_lines_name_file_line_and_field(tmp_path, line, message):
    path = write(tmp_path / "mnre_train.txt", fact(), "", line)
    with pytest.raises(ValueError, match=f"mnre_train.txt, line 3{message}"):
        list(read_facts(path, labels=MNRE_LABELS))


def test_a_wrong_name_only_warns(folder, load, caplog):
    write(folder / "mnre_txt" / "mnre_train.txt", fact(h={"name": "Bowie", "pos": [3, 5]}))
    assert load()["train"][0]["pairs"][0]["head"] == [3, 5]
    assert "mnre_train.txt, line 1" in caplog.text


def test_missing_split_warns_and_no_split_is_an_error(load, tmp_path, caplog):
    load()
    assert "there is no test split" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"mnre_val \.txt.*ours_test\.txt.*by hand"):
        load(data_dir=tmp_path / "empty")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"data_dir": None}, ValueError, "data_dir: .*None.*by hand"),
        ({"data_dir": "nowhere"}, FileNotFoundError, "data_dir: .*nowhere.*by hand"),
        ({"images": True}, FileNotFoundError, "images=True: .*img_org/train.*Google Drive"),
        ({"captions": "nobody"}, FileNotFoundError, "captions: .*nobody_train.txt"),
        ({"phrase_text": True}, ValueError, "phrase_text: .*True.*'mnre'"),
    ],
)
def test_what_is_asked_for_and_not_there(load, fields, error, message):
    with pytest.raises(error, match=message):
        load(**fields)


@pytest.mark.parametrize("content", ['{"None": 1}', '{"None": 0, "a": "x"}', '["a", "a"]', "[1]", "None"])
def test_bad_label_file(folder, load, content):
    write(folder / "ours_rel2id.json", content)
    with pytest.raises(ValueError, match="ours_rel2id.json"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", "yes"),
        ("captions", 3),
        ("max_phrases", -1),
        ("max_phrases", "3"),
        ("phrase_text", "no"),
    ],
)
def test_config_checks(name, value):
    with pytest.raises(ValueError, match=f"{name}: .*{re.escape(repr(value))}"):
        MNREConfig(**{"version": "2.0.0", name: value}).check()


def test_leaky_files_are_never_opened(folder, load):
    """They are junk here, so that reading them would fail; nor do they count as input."""
    before = load()
    for name in ("mre_train_dict.pth", "phrase_text_train.json", "txt/mre_train_dict.pth", "txt/phrase_text_val.json"):
        write(folder / name, "junk").chmod(0)
    config = MNREConfig(version="2.0.0", data_dir=str(folder))
    assert {path.name for path in MNRE.source_files(config)} == {"mnre_train.txt", "mnre_val .txt"}
    after = load()
    assert after["train"][:] == before["train"][:]
    assert after["train"].cache_files == before["train"].cache_files


@pytest.mark.skipif(not MNRE_DATA.is_dir(), reason=f"the real MNRE files are not at {MNRE_DATA}")
def test_the_real_files(tmp_path, caplog):
    fields = {"captions": "llava_next", "images": False}
    real = build(MNRE, config_name="mnre", data_dir=MNRE_DATA, cache_dir=tmp_path / "cache", **fields)
    assert "there is no test split" in caplog.text
    assert "not named as their span reads" not in caplog.text  # every name equals its span's text
    assert {name: len(split) for name, split in real.items()} == {"train": 7356, "validation": 931}
    pairs = {name: sum(map(len, split["pairs"])) for name, split in real.items()}
    assert pairs == {"train": 12247, "validation": 1624}
    assert real["train"].features["pairs"].feature["relation"].names == MNRE_LABELS
    assert len(MNRE_LABELS) == 23
    assert max(map(len, real["train"]["pairs"])) == 21
    post = real["validation"][0]
    assert post["image_phrases"] and all(phrase in post["caption"] for phrase in post["image_phrases"])
