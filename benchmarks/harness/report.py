"""The report of a benchmark: one kind of table for all that is measured, as Markdown, as a picture and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import between
from benchmarks.harness.command import about_call
from benchmarks.harness.timing import ratio, spread
from model_cards.tables import markdown_table
from vmhan.scoring.pictures import BLUE, GREY, picture


__all__ = ["Row", "Table", "draw", "markdown", "write_report"]


WIDE = 20  # ratios so many times apart have a logarithmic axis


@dataclass(frozen=True)
class Row:
    """What was measured of one subject: for each measure a number a round; the row of the same table that its ratios
    are taken to (its own name for the reference); and what it does in a round, such as pairs and tokens.
    """

    values: dict[str, list[float]]
    against: str
    work: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows by name. Values are divided by the work `per`; `milliseconds` says that they are times in seconds."""

    rows: dict[str, Row]
    per: str | None = None
    milliseconds: bool = True


def write_report(
    folder: Path, module: str, argv: Sequence[str] | None, about: Mapping[str, Any], tables: Mapping[str, Table]
) -> str:
    """Write NAME.md, which is returned, NAME.json with the numbers of every round, and a picture for each part: the
    tables whose names agree before the first "/". NAME is the last of `module`, as `about_call` takes it; `about` says
    what was measured, beside the machine and the code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title, about = module.rpartition(".")[2], about_call(module, argv, **about)
    rounds = {name: {row: asdict(of) for row, of in table.rows.items()} for name, table in tables.items()}
    (folder / f"{title}.json").write_text(json.dumps({"about": about, "rounds": rounds}) + "\n", encoding="utf-8")
    text = [f"# {title.capitalize()}", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    text += ["A cell has the median over the rounds and, in brackets, the quartiles; ratios are taken within a round."]
    for part in dict.fromkeys(name.split("/")[0] for name in tables):
        of_part = {name: table for name, table in tables.items() if name.split("/")[0] == part}
        draw(folder / f"{part}.png", of_part)
        text += ["", f"## {part.capitalize()}", "", f"![{part}]({part}.png)"]
        for name, table in of_part.items():
            text += ["", f"{name}:", "", markdown(table)]
    (folder / f"{title}.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    return "\n".join(text)


def markdown(table: Table) -> str:
    """Show each row's measures, their ratios to the row it is compared with, and the work of a round."""
    first = next(iter(table.rows.values()))
    unit = ("ms" if table.milliseconds else "") + (f" / {table.per}" if table.per else "")
    names = [f"{name} {unit}".strip() for name in first.values]
    header = ["what", *(cell for name in names for cell in (name, "ratio")), "ratio to", *first.work]
    lines = []
    for name, row in table.rows.items():
        scale = (1000 if table.milliseconds else 1) / (row.work[table.per] if table.per else 1)
        cells = [name]
        for measure, values in row.values.items():
            cells.append(between(*(scale * value for value in spread(values)), ".4g"))
            cells.append(between(*ratio(values, table.rows[row.against].values[measure]), ".2f"))
        lines.append([*cells, row.against, *map(str, row.work.values())])
    return markdown_table(header, lines, align=["---"] + ["---:"] * (len(header) - 1))


def _names(table: Table) -> list[str]:
    if len({row.against for row in table.rows.values()}) == 1:
        return list(table.rows)
    return [name if name == row.against else f"{name} / {row.against}" for name, row in table.rows.items()]


def draw(path: Path, tables: Mapping[str, Table]) -> None:
    """Draw an axis for each table and a dot with quartiles for each row: the ratio of its first measure. Where rows of
    a table have several references, a row is named with its own.
    """
    height = 1.3 + 0.3 * max(len(table.rows) for table in tables.values())
    with picture(path, width=1.6 + 4.2 * len(tables), height=height) as figure:
        names: list[str] = []
        for axes, (title, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items()):
            measure, medians = next(iter(next(iter(table.rows.values())).values)), []
            for place, (name, row) in enumerate(table.rows.items()):
                low, median, high = ratio(row.values[measure], table.rows[row.against].values[measure])
                medians.append(median)
                colour = GREY if name == row.against else BLUE
                axes.errorbar(median, place, xerr=[[median - low], [high - median]], marker="o", color=colour)
                axes.annotate(f"{median:.2f}", (high, place), xytext=(7, 0), textcoords="offset points", va="center")
            axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
            if max(medians) > WIDE * min(medians):
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
            before, names = names, _names(table)
            axes.set_yticks(range(len(names)), [""] * len(names) if names == before else names)
            axes.invert_yaxis()
            axes.margins(x=0.2)
            axes.set(title=title, xlabel=f"{measure}, ratio")
            axes.spines[["top", "right"]].set_visible(False)
