"""Files of rows are read strictly: what is written well comes back as it was, and what is not fails alone, by line."""

import csv
import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from datasets_scripts.builders.jsonl import read_posts
from datasets_scripts.tables import cell_value, csv_names, csv_rows, json_lines, parse_json, parse_row
from vmhan.inference.question_files import count_questions, read_questions


NAMES = ["id", "text", "head", "tail"]
HEADER = ",".join(NAMES)
GOOD = "7,Ann met Bob,Ann,Bob"
ROW = ["7", "Ann met Bob", "Ann", "Bob"]


@pytest.fixture
def written(tmp_path):
    """`written(content)` -> a file of it; text is UTF-8, its line ends as they are."""

    def write(content, name="in.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def read(path):
    """Cells, or the error as a string, with the line."""
    return [(line, str(row) if isinstance(row, ValueError) else list(row.values())) for line, row in csv_rows(path)]


def questions(path):
    """What predict reads: rows, and the reasons why others cannot be read."""
    found = list(read_questions(path, image_root=path.parent))
    assert count_questions(path) == len(found)
    for skip in range(len(found) + 1):
        assert list(map(repr, read_questions(path, image_root=path.parent, skip=skip))) == list(
            map(repr, found[skip:])
        )
    return found


CELLS = st.text(st.sampled_from('",;\n\r\t ab\ufeff\u2028\U0001f600é[]{}') | st.characters(codec="utf-8"), max_size=12)
CELLS = CELLS.filter(lambda cell: "\0" not in cell)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    dialect=st.sampled_from([("csv", ","), ("tsv", "\t")]),
)
@example([["a\r\nb", '"', ""], ["", "", ""]], csv.QUOTE_MINIMAL, "\r\n", "utf-8-sig", ("csv", ","))
def test_what_csv_writer_writes_comes_back(tmp_path_factory, rows, quoting, end, encoding, dialect):
    suffix, separator = dialect
    path = tmp_path_factory.mktemp("table") / f"in.{suffix}"
    with path.open("w", encoding=encoding, newline="") as file:
        options = {"lineterminator": end, "delimiter": separator}
        csv.writer(file, quoting=quoting, **options).writerow(["text", "head", "a name"])
        for row in rows:  # the standard library's writer quotes a lone CR only where it ends lines
            csv.writer(file, quoting=csv.QUOTE_ALL if "\r" in "".join(row) else quoting, **options).writerow(row)
    found = read(path)
    assert [cells for _, cells in found] == rows
    content = path.read_bytes()
    lines = [content[:position].count(b"\n") + 1 for position in _starts(content)]
    assert [line for line, _ in found] == lines[1:]


def _starts(content):
    """Where the records of well-written CSV begin."""
    starts, quotes = [0], 0
    for position, byte in enumerate(content):
        quotes += byte == ord('"')
        if byte == ord("\n") and quotes % 2 == 0 and position + 1 < len(content):
            starts.append(position + 1)
    return starts


def test_what_pandas_writes_comes_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [['a "b"\nc', "x,y", "é"], ["", "  padded ", "\U0001f600"], ["1", "None", "[0, 3]"]]
    for number, options in enumerate(
        [{}, {"quoting": csv.QUOTE_ALL}, {"encoding": "utf-8-sig", "lineterminator": "\r\n"}]
    ):
        path = tmp_path / f"{number}.csv"
        pandas.DataFrame(rows, columns=["text", "head", "tail"]).to_csv(path, index=False, **options)
        assert [cells for _, cells in read(path)] == rows


# what stands in the file, and for each of its rows the line and either the cells or words of the error
BROKEN_CSV = {
    "an open quote": (
        f'{HEADER}\n1,"Great day with Ann in Oslo,Ann,Oslo\n2,Bob says "hi" to Ann,Bob,Ann\n{GOOD}\n',
        [(2, 'Write "Great day with Ann in Oslo" | not close'), (3, '"Bob says ""hi"" to Ann"'), (4, ROW)],
    ),
    "an open quote and well quoted rows": (
        f'{HEADER}\n1,"Great day with Ann in Oslo,Ann,Oslo\n2,"He said ""hi"", Bob",He,Bob\n{GOOD}',
        [(2, '"Great day with Ann in Oslo"'), (3, ["2", 'He said "hi", Bob', "He", "Bob"]), (4, ROW)],
    ),
    "an open quote in the last line": (f'{HEADER}\n{GOOD}\n1,"Ann met Bob,Ann,Bob', [(2, ROW), (3, '"Ann met Bob"')]),
    "an open quote before a comma of the sentence": (
        f'{HEADER}\n1,"Today, Ann met Bob,Ann,Bob\n{GOOD}\n',
        [(2, 'Write "Today, Ann met Bob"'), (3, ROW)],
    ),
    "an open quote in the last cell": (f'{HEADER}\n1,Ann met Bob,Ann,"Bob\n{GOOD}\n', [(2, '"Bob"'), (3, ROW)]),
    "two rows that RFC 4180 reads as one": (
        f'{HEADER}\n1,"Great day with Ann in Oslo,Ann,Oslo\n2,Sunny day with Cem in Bonn",Cem,Bonn\n{GOOD}\n',
        [(2, 'reads like two rows | line 3 | "Great day with Ann in Oslo"'), (3, "Bonn"), (4, ROW)],
    ),
    "two rows with line breaks that RFC 4180 reads as one": (
        f'{HEADER}\n1,"Great day\nwith Ann in Oslo,Ann,Oslo\n2,Sunny day\nwith Cem",Cem,Bonn\n{GOOD}\n',
        [(2, 'reads like two rows | line 5 | "Great day\nwith Ann in Oslo"'), *((n, "") for n in (3, 4, 5)), (6, ROW)],
    ),
    "three rows that RFC 4180 reads as one": (
        f'{HEADER}\r\n1,"Great, Ann in Oslo,Ann,Oslo\r\n{GOOD}\r\n2,Sunny day with Cem",Cem,Bonn\r\n{GOOD}\r\n',
        [(2, '"Great, Ann in Oslo"'), (3, ROW), (4, "quote"), (5, ROW)],
    ),
    "the same with the text last": (
        'head,tail,text\nAnn,Oslo,"Great day with Ann in Oslo\nCem,Bonn,Sunny, Cem in Bonn"\nAnn,Bob,Ann met Bob\n',
        [(2, "reads like two rows"), (3, "quote"), (4, ["Ann", "Bob", "Ann met Bob"])],
    ),
    "a quoted word first": (
        f'{HEADER}\n1,"Sunday" Ann Lee waves at Bob Ray,Ann Lee,Bob Ray\n{GOOD}\n',
        [(2, '"""Sunday"" Ann Lee waves at Bob Ray"'), (3, ROW)],
    ),
    "a quoted word last": (f'{HEADER}\n1,Ann is "it",Ann,it\n{GOOD}', [(2, 'Write "Ann is ""it""'), (3, ROW)]),
    "a blank before a quote": (f'{HEADER}\n1, "Ann met Bob",Ann,Bob\n{GOOD}', [(2, 'Write " ""Ann met'), (3, ROW)]),
    "a blank after a quote": (f'{HEADER}\n1,"Ann met Bob" ,Ann,Bob\n{GOOD}', [(2, "after the quote"), (3, ROW)]),
    "a backslash for a quote": (f'{HEADER}\n1,"Ann \\"met\\" Bob",Ann,Bob\n{GOOD}', [(2, "quote"), (3, ROW)]),
    "inches": (f'{HEADER}\n1,The 5" screen,The,screen\n2,A 7" screen,A,screen\n{GOOD}', [
        (2, 'Write "The 5"" screen"'), (3, 'Write "A 7"" screen"'), (4, ROW),
    ]),
    "too few cells": (f"{HEADER}\n1,Ann met Bob,Ann\n{GOOD}", [(2, "4 cells | received 3"), (3, ROW)]),
    "too many cells": (f"{HEADER}\n1,Ann, met Bob,Ann,Bob\n{GOOD}", [(2, "4 cells | received 5"), (3, ROW)]),
    "line breaks in a cell, and too few": (
        f'{HEADER}\n1,"Ann\nmet Bob",Ann\n{GOOD}',
        [(2, "received 3 up to line 3"), (3, "quote"), (4, ROW)],
    ),
    "after a cell of three lines": (
        f'{HEADER}\n1,"Ann\r\n\nmet Bob",Ann,Bob\n\n{GOOD},\n{GOOD}',
        [(2, ["1", "Ann\r\n\nmet Bob", "Ann", "Bob"]), (6, "received 5"), (7, ROW)],
    ),
    "a text that holds commas and names": (
        f'{HEADER}\n1,"Ann, Bob, Ann, Bob\nAnn, Bob",Ann,Bob\n',
        [(2, ["1", "Ann, Bob, Ann, Bob\nAnn, Bob", "Ann", "Bob"])],
    ),
    "a lone CR": (f"{HEADER}\n1,Ann\rmet Bob,Ann,Bob\n{GOOD}", [(2, r"lone CR | 'Ann\rmet Bob'"), (3, ROW)]),
    "a lone CR in quotes": (f'{HEADER}\n1,"Ann\rmet Bob",Ann,Bob\n', [(2, ["1", "Ann\rmet Bob", "Ann", "Bob"])]),
    "a NUL byte": (f"{HEADER}\n1,Ann \0met Bob,Ann,Bob\n{GOOD}", [(2, "NUL"), (3, ROW)]),
    "no UTF-8": (
        f"{HEADER}\n1,José met Bob,Ann,Bob\n".encode("latin-1") + GOOD.encode(),
        [(2, "0xe9 after '1,Jos'"), (3, ROW)],
    ),
    "no UTF-8 in a quoted cell": (
        f'{HEADER}\n1,"Bob\nmet José",Ann,Bob\n'.encode("latin-1") + GOOD.encode(),
        [(2, "0xe9"), (3, "quote"), (4, ROW)],
    ),
    "blank lines": (f"{HEADER}\n\n  \r\n{GOOD}\n\n", [(4, ROW)]),
    "no row": (f"{HEADER}\n", []),
    "no line end": (HEADER, []),
    "blank cells": (f"{HEADER}\n,,,\n", [(2, ["", "", "", ""])]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_CSV)
def test_a_broken_row_of_csv_fails_alone(written, name):
    content, expected = BROKEN_CSV[name]
    found = read(path := written(content))
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (line, row), (_, said), question in zip(found, expected, questions(path), strict=True):
        if isinstance(said, list):
            assert row == said and question == {key: cell for key, cell in zip(csv_names(path), said) if cell.strip()}
        else:
            assert isinstance(row, str) and all(part in row for part in said.split(" | ")), row
            assert str(question).startswith(f"line {line}: {row}")


BROKEN_TSV = {
    "an open quote": ('1\t"Great, Ann in Oslo\tAnn\tOslo', 'Write "Great, Ann in Oslo"'),
    "a quoted word first": ('1\t"Sunday" Ann, Bob\tAnn\tBob', 'Write """Sunday"" Ann, Bob"'),
    "too many cells": ("1\tAnn\tmet Bob\tAnn\tBob", "4 cells | received 5"),
    "two rows that RFC 4180 reads as one": (
        '1\t"Day with Ann in Oslo\tAnn\tOslo\n2\tDay with Cem in Bonn"\tCem\tBonn',
        'reads like two rows | "Day with Ann in Oslo"',
    ),
}


@pytest.mark.parametrize(("broken", "said"), BROKEN_TSV.values(), ids=BROKEN_TSV.keys())
def test_a_broken_row_of_tsv_fails_alone(written, broken, said):
    header, good = HEADER.replace(",", "\t"), GOOD.replace(",", "\t")
    first, wrong, *_, last = read(written(f"{header}\n{good}\n{broken}\n{good}\n", "in.tsv"))
    assert first[1] == last[1] == ROW and wrong[0] == 3 and all(part in wrong[1] for part in said.split(" | ")), wrong


@pytest.mark.parametrize(
    "name", [name for name, (_, rows) in BROKEN_CSV.items() if rows and isinstance(rows[0][1], str)]
)
def test_the_data_source_stops_at_a_broken_row(written, name):
    path = written(BROKEN_CSV[name][0], "train.csv")
    line, error = read(path)[0]
    with pytest.raises(ValueError) as raised:
        list(read_posts(path, labels=["None"], split="train"))
    assert str(raised.value) == f"{path}, line {line}: {error}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,head,head\n", "line 1.*'head'"),
        ("text, head,tail\n", "line 1.*' head'"),
        ("text,head,tail,\n", "line 1.*''.*index=False"),
        (",text,head,tail\n", "line 1.*''.*index=False"),
        ("\n\ntext,head,head\n", "line 3.*'head'"),
        ('text,"head,tail\nAnn,Ann,Bob\n', 'line 1.*"head"'),
        ("text;head;tail\na;b;c\n", "separator ';'.*text;head;tail"),
        ('"text";"head";"tail"\n"a";"b";"c"\n', "separator ';'"),
        ("text\thead\ttail\n", r"separator '\\t'"),
        ("text,head,tail\rAnn met Bob,Ann,Bob\r", "lone CR"),
        ("text,head,tail\n".encode("utf-16"), "UTF-16"),
        ("text,head,tail\n".encode("utf-16-le"), "UTF-16"),
        ("text,head,tail\n".encode("utf-32"), "UTF-32"),
        ("téxt,head\n".encode("latin-1"), "0xe9"),
    ],
)
def test_a_header_that_cannot_be_read_is_the_file_s_error(written, content, said):
    path = written(content, "train.csv")
    for use in (csv_names, count_questions, lambda path: list(read_posts(path, labels=[], split="train"))):
        with pytest.raises(ValueError, match=f"(?s)train.csv.*{said}"):
            use(path)


def test_the_separator_of_a_tsv_is_the_tab(written):
    with pytest.raises(ValueError, match=r"in.tsv, line 1: expected '\\t' .* separator ','.*text,head,tail"):
        csv_names(written("text,head,tail\n", "in.tsv"))


def test_reading_on_after_open_quotes_takes_no_longer_than_the_file(written):
    """A reader that looks for the other quote from each line on would need minutes."""
    lines = ['1,"Ann met Bob,Ann,Bob', *['2,"Ann ""met"" Bob",Ann,Bob'] * 15_000] * 2
    found = read(written("\n".join([HEADER, *lines])))
    assert [line for line, row in found if isinstance(row, str)] == [2, 15_003] and len(found) == 30_002


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "text": "b"}', "'text' is there twice"),
        ('{"pairs": [{"head": "a", "head": "b"}]}', "'head' is there twice"),
        ('{"boxes": [[NaN, 0, 1, 1]]}', "NaN"),
        ('{"boxes": [[0, 0, Infinity, 1]]}', "Infinity"),
        ('{"boxes": [[0, 0, -Infinity, 1]]}', "-Infinity"),
        ('{"boxes": [[0, 0, 1e999, 1]]}', "1e999"),
        ('{"id": ' + "9" * 400 + "}", "400 digits"),
        ('{"id": ' + "9" * 9000 + "}", "9000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"text": "a"}]', r"received list: \[{"),
        ("5", "received int: 5"),
        ("null", "NoneType"),
        ("{'text': 'a'}", "double quotes"),
        ('{"text": "a"}{"text": "b"}', "Extra data at character 14"),
        ('{"text": "a"},', "Extra data"),
        ('{"text": "a', "Unterminated"),
        ('{"text": "a\0b"}', "control character"),
        ('\ufeff{"text": "a"}', "BOM"),
        (b'{"text": "caf\xe9"}', "0xe9 after"),
        (b'{"text": "\xed\xa0\x80"}', "0xed"),
    ],
)
def test_a_broken_line_of_jsonl_fails_alone(written, line, said):
    line = line.encode() if isinstance(line, str) else line
    path = written(b'{"text": "x", "id": 1}\r\n\n \n' + line + b'\n{"text": "y"}', "in.jsonl")
    first, wrong, last = questions(path)
    assert (first, last) == ({"text": "x", "id": 1}, {"text": "y"})
    with pytest.raises(ValueError, match=f"^line 4: expected .*{said}"):
        raise wrong
    lines = [b'{"text": "a b", "pairs": [{"head": "a", "tail": "b", "relation": "None"}]}', b"", line]
    with pytest.raises(ValueError, match=f"train.jsonl, line 3: expected .*{said}"):
        list(read_posts(written(b"\n".join(lines), "train.jsonl"), labels=["None"], split="train"))


def test_lines_of_jsonl_end_at_line_feeds_alone(written):
    rows = [{"text": "a\u2028b\u2029c\x85d\x1ce\x0bf\x0c"}, {"text": "\U0001f600"}, {}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = written(b"\xef\xbb\xbf" + text.encode(), "in.jsonl")
    assert [(number, parse_row(line)) for number, line in json_lines(path)] == list(enumerate(rows, start=1))
    assert questions(path) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps([{"text": "a"}], indent=2), r"line 1.*'\['.*jq"),
        (json.dumps({"text": "a"}, indent=2), "line 1.*'{'"),
        ("\n[\n" + '{"text": "a"},\n', r"line 2.*'\['"),
        ('{"text": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"text": "a"}'.encode("utf-16-be"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_jsonl_is_named(written, content, said):
    path = written(content, "train.jsonl")
    for use in (count_questions, lambda path: list(read_posts(path, labels=[], split="train"))):
        with pytest.raises(ValueError, match=f"train.jsonl.*{said}"):
            use(path)


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("text", "[1, 2]", "[1, 2]"),
        ("id", "007", "007"),
        ("relation", "null", "null"),
        ("head", "[0, 3]", [0, 3]),
        ("tail", " [0, 0, 5.5, 9]", [0, 0, 5.5, 9]),
        ("head", "[Ann]", "[Ann]"),
        ("head", "[1]", "[1]"),
        ("head", '["a", "b"]', '["a", "b"]'),
        ("head", "2019", "2019"),
        ("head", "[NaN, 1]", "[NaN, 1]"),
        ("boxes", "[[0, 0, 5, 5]]", [[0, 0, 5, 5]]),
        ("tail_object", "0", 0),
    ],
)
def test_a_cell_is_text_json_or_a_place(name, cell, value):
    assert cell_value(name, cell) == value


@pytest.mark.parametrize("cell", ["[[0, 0", "[NaN]", '{"a": 1, "a": 2}', "['a']"])
def test_a_cell_that_is_no_json_is_an_error(cell):
    with pytest.raises(ValueError, match="expected JSON, received"):
        cell_value("boxes", cell)


def test_numbers_of_json_are_kept_exactly():
    assert parse_json("[1, -0.5, 1e300, 123456789012345678901234567890]") == [
        1,
        -0.5,
        1e300,
        123456789012345678901234567890,
    ]
