"""Tables of Parquet as questions: a column that cannot be meant is named, with its type, before anything is asked."""

import pyarrow
import pytest
from pyarrow import parquet

from vmhan.inference.question_files import count_questions, read_questions


def written(path, *columns):
    """A file with (name, values) as columns, of which two may have one name."""
    arrays = [values if isinstance(values, pyarrow.Array) else pyarrow.array(values) for _, values in columns]
    parquet.write_table(pyarrow.table(arrays, names=[name for name, _ in columns]), path)
    return path


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([("text", ["a"]), ("head", ["x"]), ("head", ["y"])], "column head: .*2"),
        ([("text", ["a"]), ("text", ["b"])], "column text: .*2"),
        ([("text", [["a", "b"]])], "column text: .*list<.*string>"),
        ([("text", [{"a": "b"}])], "column text: .*struct<a: string>"),
        ([("text", [b"a"])], "column text: .*binary"),
        ([("text", [5])], "column text: .*int64"),
        ([("tokens", [["a"]]), ("caption", [["b"]])], "column caption: .*list"),
        ([("text", ["a"]), ("id", [{"a": 1}])], "column id: .*struct"),
        ([("text", ["a"]), ("image_id", [7])], "column image_id: .*int64"),
        ([("head", ["a"])], r"text or tokens.*\['head'\]"),
    ],
)
def test_a_column_of_parquet_that_cannot_be_meant_is_named(tmp_path, columns, said):
    path = written(tmp_path / "in.parquet", *columns)
    for read in (count_questions, lambda path: list(read_questions(path, image_root=tmp_path))):
        with pytest.raises(ValueError, match=f"in.parquet.*{said}"):
            read(path)


def test_types_that_hold_text_are_read_as_text(tmp_path):
    kinds = [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary("int8", "string")]
    for kind in kinds:
        text = pyarrow.array(["Ann met Bob"], "string").cast(kind)
        path = written(tmp_path / "in.parquet", ("text", text), ("caption", pyarrow.nulls(1)), ("id", [7]))
        assert list(read_questions(path, image_root=tmp_path)) == [{"text": "Ann met Bob", "id": 7}]


def test_a_file_that_is_damaged_in_its_middle_is_named(tmp_path):
    path = written(tmp_path / "in.parquet", ("text", [f"Ann met {i}" for i in range(9000)]))
    content = bytearray(path.read_bytes())
    content[2000:6000] = b"x" * 4000
    path.write_bytes(content)
    with pytest.raises(ValueError, match="in.parquet: .*damaged"):
        list(read_questions(path, image_root=tmp_path))


@pytest.mark.parametrize(
    ("name", "content"), [("in.csv", "text,head,tail\n"), ("in.jsonl", "\n \n"), ("in.jsonl", "")]
)
def test_a_file_without_a_question_is_said(tmp_path, caplog, name, content):
    (tmp_path / name).write_text(content)
    assert count_questions(tmp_path / name) == 0 and f"{name}: no question" in caplog.text
