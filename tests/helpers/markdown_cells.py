"""A small reader of Markdown tables: what a reader of the page sees in each cell."""

import re


def tables(text):
    """The tables of a page, each a list of rows of cells as plain text; every row has as many cells as the heading."""
    found, rows = [], []
    for line in [*text.split("\n"), ""]:
        if line.startswith("|") and line.endswith("|"):
            rows.append([plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            assert len(rows[-1]) == len(rows[0]), line
        elif rows:
            assert all(re.fullmatch("---:?", cell) for cell in rows[1]), rows
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def plain(cell):
    """A cell without its Markdown; a character that would mean something and is not escaped is an error."""
    cell = cell.strip().replace("\\|", "|")
    if span := re.fullmatch(r"(`+)((?:(?!\1).)+)\1", cell):
        inner = span[2]
        assert not re.search(rf"(?<!`){span[1]}(?!`)", inner)
        return inner[1:-1] if inner[0] == inner[-1] == " " and inner.strip() else inner
    cell = re.sub(r"^(\*+)([^*]+)\1(†?)$", r"\2\3", cell)
    cell = re.sub(r"(?<![\\`])`(\w+)`(?!`)", r"\1", cell)  # a key among other words
    parts = re.split(r"\\([!-/:-@\[-`{-~])|(<br>)", cell)
    assert not any(re.search(r"[`*<>~$\\]|\]\(|&#?\w+;", part) for part in parts[::3]), cell
    read = zip(parts[::3], parts[1::3] + [""], parts[2::3] + [""])
    return "".join(text + (mark or "") + ("\n" if line_break else "") for text, mark, line_break in read)
