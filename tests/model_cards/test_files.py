"""A file is there whole or not at all."""

import hashlib
import json

import pytest

from model_cards.files import sha256_of, whole_file, write_json, write_text


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new folder" / "a.png"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"all of it")
        assert temporary.parent == path.parent and temporary.suffix == ".png" and not path.exists()
    assert path.read_bytes() == b"all of it" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old\r\n")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"old\r\n" and list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_read_back(tmp_path):
    write_text(tmp_path / "a", "\0" * (1 << 21))
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"\0" * (1 << 21)).hexdigest()
    write_json(str(tmp_path / "b"), {"a": ["\ud83d"]})
    assert json.loads((tmp_path / "b").read_text()) == {"a": ["\ud83d"]}


@pytest.mark.parametrize(
    ("value", "place"), [({"a": [0, {"b": float("nan")}]}, r"a\[1\]\.b = nan"), ([float("-inf")], r"\[0\] = -inf")]
)
def test_what_json_does_not_have_is_not_written(value, place, tmp_path):
    with pytest.raises(ValueError, match=rf"metrics.json: .* no NaN, received {place}"):
        write_json(tmp_path / "metrics.json", value)
    assert list(tmp_path.iterdir()) == []
