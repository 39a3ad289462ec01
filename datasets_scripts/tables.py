"""Files of rows that people bring, read strictly: JSONL with one object a line, and CSV as RFC 4180 has it, in whose
place a .tsv has tabs for commas.

All are UTF-8, with or without a byte order mark; blank lines are no rows. A row that cannot be read is a ValueError
in its place, beside the number of the line that it begins in. The reader then goes on with the next line: nothing that
an open quote has swallowed becomes part of a row.
"""

import codecs
import json
import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any


__all__ = ["cell_value", "csv_names", "csv_rows", "json_lines", "parse_json", "parse_row", "row_values"]

MAX_CELL = 1 << 24  # characters; features of 4096 numbers need about 90,000
MAX_DIGITS = 300  # of a whole number; more do not fit a float
SEPARATORS = {",": "[;\t|]", "\t": "[;,|]"}  # of the columns: the right one, and what is written in its place
MAX_BREAKS = 100  # of a cell's lines that are looked at for a row that it has swallowed
SHOWN = 80  # characters of a received line or cell
TEXT_COLUMNS = {"id", "text", "image", "image_id", "caption", "relation"}  # of CSV: never JSON
QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
PLAIN = {separator: re.compile(rf'[^"{separator}]*+') for separator in SEPARATORS}
BOMS = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}

Lines = list[tuple[int, bytes]]  # numbers, from 1, and contents, line ends included


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each line that is not blank, for `parse_row`; ValueError for a file in another encoding,
    and for one that begins with a bracket alone, as an array or an indented object does.
    """
    is_first = True
    for number, line in _numbered(path):
        if not line.strip():
            continue
        if is_first and line.strip() in (b"[", b"{"):
            raise ValueError(
                f"{path}, line {number}: expected one JSON object a line, received {line.strip().decode()!r}, where a "
                "JSON array or an object over several lines begins. Of an array `jq -c '.[]'` makes such lines, of "
                "objects `jq -c .`"
            )
        is_first = False
        yield number, line


def parse_row(line: bytes) -> dict[str, Any]:
    """The object of a line of JSONL; a ValueError says what else it is."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from None
    value = parse_json(text, "one JSON object a line")
    if not isinstance(value, dict):
        raise ValueError(f"expected one JSON object a line, received {type(value).__name__}: {text[:SHOWN]}")
    return value


def parse_json(text: str, expected: str = "JSON") -> Any:
    """What JSON says, if it says one thing: a ValueError for an object with one key twice, NaN, an infinite or an
    endless number, and what is no JSON or is nested too deeply to be read.
    """
    hooks = {"parse_constant": _no_number, "parse_float": _finite, "parse_int": _whole}
    try:
        return json.loads(text, object_pairs_hook=_distinct, **hooks)
    except RecursionError:
        reason = "it is nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos + 1}"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"expected {expected}, received {text[:SHOWN]!r} ({reason})")


def csv_names(path: Path) -> list[str]:
    """The names in the header, in their order; [] of an empty file. ValueError for one that is blank, padded with
    white space or there twice, and for a header that another separator than the file's divides.
    """
    separator = _separator_of(path)
    for number, cells in _csv_records(path):
        place = f"{path}, line {number}"
        if isinstance(cells, ValueError):
            raise ValueError(f"{place}: {cells}")
        if len(cells) == 1 and (found := re.search(SEPARATORS[separator], cells[0])):
            raise ValueError(f"{place}: {_separated_by(separator, found[0], cells[0])}")
        for name in cells:
            if not name or name != name.strip() or cells.count(name) > 1:
                fix = "" if name else ". Is there a separator too many? pandas names its index so: to_csv(index=False)"
                raise ValueError(
                    f"{place}: expected names of columns, each once and without white space around it, received "
                    f"{name!r} among {cells}{fix}"
                )
        return cells
    return []


def csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | ValueError]]:
    """(line, {column: cell}) of each row below the header; errors of the header are those of `csv_names`."""
    names = csv_names(path)
    for number, cells in _csv_records(path, names):
        yield number, cells if isinstance(cells, ValueError) else dict(zip(names, cells, strict=True))


def row_values(row: dict[str, str] | ValueError) -> dict[str, Any]:
    """The values of the cells that are not blank; raises the row's ValueError, or one that names a column."""
    if isinstance(row, ValueError):
        raise row
    values = {}
    for name, cell in row.items():
        if cell.strip():
            try:
                values[name] = cell_value(name, cell)
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None
    return values


def cell_value(name: str, cell: str) -> Any:
    """A cell's text, or in a column that is not text its JSON. A mention is JSON if it is a list of 2 or 4 numbers."""
    if name in TEXT_COLUMNS:
        return cell
    if name not in ("head", "tail"):
        return parse_json(cell)
    try:
        value = parse_json(cell) if cell.lstrip().startswith("[") else cell
    except ValueError:
        return cell  # a mention may well be "[Ann]"
    is_place = isinstance(value, list) and len(value) in (2, 4) and all(isinstance(x, (int, float)) for x in value)
    return value if is_place else cell


def _separator_of(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, without a byte order mark; ValueError for UTF-16 and UTF-32."""
    with path.open("rb") as file:
        start = file.read(4)
        named = [name for name, boms in BOMS.items() if start.startswith(boms)] or ["UTF-16"] * (b"\0" in start)
        if named:
            raise ValueError(f"{path}: expected UTF-8, received {named[0]}. Save it as UTF-8 (in Excel: CSV UTF-8)")
        file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        yield from enumerate(file, start=1)


def _csv_records(path: Path, names: Sequence[str] | None = None) -> Iterator[tuple[int, list[str] | ValueError]]:
    """(line, cells) of each record; with `names`, those below the header, which have as many cells."""
    ahead: deque[tuple[int, bytes]] = deque()  # lines that are read already and may begin a record
    lines, separator = _numbered(path), _separator_of(path)
    in_header = names is not None
    while record := _next_record(ahead, lines):
        is_blank = not record[0][1].strip() and separator.encode() not in record[0][1]
        if in_header or is_blank:
            in_header = in_header and is_blank
            continue
        try:
            yield record[0][0], _cells_of(record, names, separator)
        except ValueError as error:
            ahead.extendleft(reversed(record[1:]))
            yield record[0][0], error


def _next_record(ahead: deque[tuple[int, bytes]], lines: Iterator[tuple[int, bytes]]) -> Lines:
    """The lines up to one with which every quote is closed, or a record is too long to be one; [] at the end."""
    record, quotes, size = [], 0, 0
    for line in chain(iter(lambda: ahead.popleft() if ahead else None, None), lines):
        record.append(line)
        quotes, size = quotes + line[1].count(b'"'), size + len(line[1])
        if quotes % 2 == 0 or size > 4 * MAX_CELL:
            break
    return record


def _cells_of(record: Lines, names: Sequence[str] | None, separator: str) -> list[str]:
    """The cells of a record; a ValueError says why it is none, and how to write it."""
    raw, not_utf8 = b"".join(line for _, line in record), None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        text, not_utf8 = raw.decode("utf-8", "replace"), _not_utf8(error)
    text = text.removesuffix("\n").removesuffix("\r")
    cells = _split(text, None if names is None else len(names), separator)
    until = f" up to line {record[-1][0]}, is a quote not closed?" if len(record) > 1 else "."
    if names is not None and len(cells) != len(names):
        raise ValueError(
            f"expected {len(names)} cells, {list(names)}, received {len(cells)}{until} Put a cell with separators "
            "or line breaks into double quotes"
        )
    if not_utf8:
        raise not_utf8
    if "\0" in text:
        raise ValueError("expected text, received a NUL byte. Is the file damaged, or UTF-16?")
    if max(map(len, cells)) > MAX_CELL:
        raise ValueError(f"expected cells of at most {MAX_CELL} characters, received {max(map(len, cells))}")
    if names is not None and len(record) > 1 and (cell := _swallowing(cells, names, separator)) is not None:
        raise ValueError(
            f"expected a cell, received one that reads like two rows{until} If so, write {_shown(cell)}; if it is "
            "right, write the rows as JSONL"
        )
    return cells


def _split(text: str, width: int | None, separator: str) -> list[str]:
    """The cells of a record, of which there should be `width`; ValueError for a quote where RFC 4180 has none."""
    cells, at, plain = [], 0, PLAIN[separator]
    while True:
        found = (QUOTED if text.startswith('"', at) else plain).match(text, at)
        end = found.end() if found else len(text)
        if found is None or (end < len(text) and text[end] != separator):
            after = None if width is None else width - len(cells) - 1
            raise ValueError(_misquoted(text, at, found, after, separator))
        if found.re is plain and "\r" in found[0]:
            raise ValueError(
                f"expected lines that end in LF or CRLF, received a lone CR in {found[0][:SHOWN]!r}. Put a cell with "
                "line breaks into double quotes; of an old Mac's file replace the line ends"
            )
        cells.append(found[0] if found.re is plain else found[0][1:-1].replace('""', '"'))
        if end == len(text):
            return cells
        at = end + 1


def _misquoted(text: str, at: int, found: re.Match | None, after: int | None, separator: str) -> str:
    """What is wrong with the quotes of the cell that begins at `at`, before `after` others, and how to write it."""
    cell = _cell_in_its_line(text, at, after, separator)
    if after is None and found and re.match(SEPARATORS[separator], text[found.end()]):
        return _separated_by(separator, text[found.end()], cell)
    if found is None or "\n" in found[0]:
        problem, fix = "a quote that its line does not close", _shown(cell[1:])
    else:
        is_quoted = found.re is QUOTED
        problem = "words after the quote that ends it" if is_quoted else "a quote, but does not begin with one"
        fix = _shown(cell.replace('"', '""'))
    return f"expected CSV, received a cell that has {problem}: {cell[:SHOWN]}. Write {fix}"


def _separated_by(expected: str, found: str, received: str) -> str:
    return f"expected {expected!r} between the columns, is the separator {found!r}? Received {received[: 2 * SHOWN]}"


def _shown(cell: str) -> str:
    return f'"{cell}"' if len(cell) <= 2 * SHOWN else f'"{cell[: 2 * SHOWN]}..."'


def _cell_in_its_line(text: str, at: int, after: int | None, separator: str) -> str:
    """What the cell would be if quotes were letters: up to the separators of the `after` cells that follow."""
    line = text[at:].split("\n", 1)[0].rstrip("\r")
    return line.split(separator, 1)[0] if after is None else line.rsplit(separator, after)[0]


def _swallowing(cells: list[str], names: Sequence[str], separator: str) -> str | None:
    """What a cell holds of a row that it has swallowed: RFC 4180 takes two rows with one quote too few each for one.

    Such a cell is a row up to one of its line breaks, or from one on: the row's mentions stand in its text, without
    the white space that follows a comma in prose.
    """
    if not {"text", "head", "tail"} <= set(names):
        return None
    for at, cell in enumerate(cells):
        after = len(names) - at - 1
        for line_end in islice(re.finditer("\r?\n", cell), MAX_BREAKS):
            opening = cell[: line_end.start()].rsplit(separator, after)
            closing = cell[line_end.end() :].split(separator, at)
            is_row = _is_row([*cells[:at], *opening], names, range(at + 1, len(names)))
            if is_row or _is_row([*closing, *cells[at + 1 :]], names, range(at)):
                return opening[0]
    return None


def _is_row(cells: list[str], names: Sequence[str], of_line: range) -> bool:
    """Whether these are the cells of a row, of whose mentions one at least is among those at `of_line`."""
    row, places = dict(zip(names, cells)), [list(names).index(role) for role in ("head", "tail")]
    if len(cells) != len(names) or not any(place in of_line for place in places):
        return False
    return all(cell and cell == cell.strip() and cell in row["text"] for cell in (row["head"], row["tail"]))


def _not_utf8(error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"expected UTF-8, received the byte 0x{error.object[error.start]:02x} after "
        f"{error.object[: error.start].decode('utf-8', 'replace')[-20:]!r}. Save the file as UTF-8"
    )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return content


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:SHOWN]} is too large a number")
    return number


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
