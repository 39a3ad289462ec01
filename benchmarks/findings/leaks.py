"""The numbers and pictures of docs/leaks.md: what MNRE's files give away, and what the audit says of five data sets.

    python -m benchmarks.findings.leaks DIR AUDITS --output_dir docs/leaks

DIR is the folder of MNRE-2 with the published auxiliary files. AUDITS has a folder that `vmhan audit` wrote for each
name of AUDITED. Writes leaks.json (counts, no text), order.png and crops.png, and prints the tables of the page.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import between, percent
from benchmarks.harness.command import about_call, new_parser
from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.mnre import MNRE, MNRE_LABELS, SYMMETRIC
from datasets_scripts.builders.published import published_files, read_line_file
from model_cards.files import write_json
from model_cards.run_metadata import read_object
from model_cards.tables import Markdown, code, markdown_table
from vmhan.scoring.pictures import BLUE, GREY, ORANGE, picture


__all__ = ["count", "draw_crops", "draw_order", "main", "read_audit", "tables"]

AUDITED = {
    "mnre": "MNRE-2, official",
    "mnre_order_blind": "MNRE-2, order-blind",
    "leaky_train": "published files",
    "leaky_val": "published files",
    "more": "fixture of MORE",
    "postcards": "postcards",
}
SPLITS = {"mnre_train": "train", "mnre_val": "validation"}  # as the audit calls the splits of loose files
SINGLE = {"count": "number of crops", "words beyond the pair's own, as a code": "entity types behind the names"}
DETECTION = "none or positive"


def count(folder: Path) -> dict[str, Any]:
    """`orders`: {split: {relation: [pairs with the head first, pairs with the tail first]}}; `crops`: {split: {"None"
    or "a relation": {number of crops of the pair's line: pairs}}}.
    """
    orders, crops = {}, {}
    for split, path in MNRE.text_files(folder).items():
        pairs = [pair for _, _, pair in read_facts(path, labels=MNRE_LABELS)]
        of_order = Counter((pair["relation"], pair["tail"][0] < pair["head"][0]) for pair in pairs)
        orders[split] = {name: [of_order[name, False], of_order[name, True]] for name in MNRE_LABELS}
        names = read_line_file(published_files(folder, split, False)[0], len(pairs))
        crops[split] = {kind: Counter() for kind in ("None", "a relation")}
        for pair, of_line in zip(pairs, names, strict=True):
            crops[split]["None" if pair["relation"] == "None" else "a relation"][str(len(of_line))] += 1
    return {"orders": orders, "crops": crops}


def read_audit(folder: Path) -> dict[str, Any]:
    """{split: whether it failed, the broken invariants, and the views that fail, or, where none does, the one that
    tells most}. Examples, which are text of the data, stay out.
    """
    found = {}
    for split, of_split in read_object(folder / "audit.json")["splits"].items():
        views = sorted((row for row in of_split["views"] if row["kind"] == "structure"), key=lambda row: -row["share"])
        failed = [row for row in views if row["failed"]]
        said = failed or [row for row in views if row["task"] == DETECTION][:1]
        broken = {check["field"]: check["violations"] for check in of_split["checks"] if check["failed"]}
        found[SPLITS.get(split, split)] = {"failed": of_split["failed"], "broken": broken, "views": said}
    return found


def tables(found: Mapping[str, Any]) -> list[str]:
    """The tables of docs/leaks.md: one field of the published files alone, and the verdicts of the audit."""
    alone = [row for name in ("leaky_train", "leaky_val") for row in _alone(found["audits"][name])]
    verdicts = []
    for name, splits in found["audits"].items():
        for split, said in splits.items():
            best = {row["field"]: row for row in reversed(said["views"]) if row["task"] == DETECTION}
            views = sorted(best.values(), key=lambda row: -row["share"])
            fields = Markdown("<br>".join(f"{code(row['field'])}, {row['aspect']}" for row in views))
            shares = Markdown("<br>".join(map(_share, views)))
            verdicts.append([AUDITED[name], split, "fails" if said["failed"] else "passes", fields, shares])
    share = "share of errors removed"
    return [
        markdown_table(["field alone", "split", "detection: accuracy", share, "relation: accuracy", "F1"], alone),
        markdown_table(["data", "split", "verdict", "field that fails, or tells most", share], verdicts),
    ]


def _alone(splits: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, said in splits.items():
        by_view = {(row["aspect"], row["task"]): row for row in said["views"]}
        for aspect, title in SINGLE.items():
            detection, relation = by_view[aspect, DETECTION], by_view[aspect, "relation"]
            scores = [percent(relation[name]) for name in ("accuracy", "f1")]
            yield [title, split, percent(detection["accuracy"]), _share(detection), *scores]


def _share(row: Mapping[str, Any]) -> str:
    low, high = row["share_interval"]
    return between(100 * low, 100 * row["share"], 100 * high, ".1f")


def draw_order(orders: Mapping[str, Mapping[str, Sequence[int]]], path: Path) -> None:
    """Above, how many pairs have a relation by which mention stands first; below, how often the tail does so."""
    positive = {}
    for place, order in enumerate(("head first", "tail first")):
        for split, of_split in orders.items():
            pairs = sum(row[place] for row in of_split.values())
            positive[f"{order}, {split} ({pairs:,})"] = 1 - of_split["None"][place] / pairs
    turned = {f"{name} ({sum(row):,})": row[1] / max(1, sum(row)) for name, row in orders["train"].items()}
    kinds = dict(
        zip(turned, ["symmetric, or None" if name in (*SYMMETRIC, "None") else "directed" for name in MNRE_LABELS])
    )
    turned = dict(sorted(turned.items(), key=lambda item: item[1]))
    with picture(path, width=7.2, height=6) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[len(positive) + 2, len(turned) + 2], sharex=True)
        above.bar_label(above.barh([*positive][::-1], [*positive.values()][::-1], color=BLUE), fmt="{:.1%}", padding=3)
        above.set_title("Pairs that have a relation, by the mention that stands first")
        for kind, colour in (("directed", ORANGE), ("symmetric, or None", GREY)):
            shares = [share * (kinds[name] == kind) for name, share in turned.items()]
            below.barh(list(turned), shares, color=colour, label=kind)
        below.set(xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1], xticklabels=["0", "25 %", "50 %", "75 %", "100 %"])
        below.set_title("Pairs whose tail stands first, by relation (train)")
        below.legend(frameon=False, loc="lower right")


def draw_crops(crops: Mapping[str, Mapping[str, Mapping[str, int]]], path: Path) -> None:
    """How many pairs have how many crops in the published file, None against a relation (train)."""
    sizes = sorted({int(size) for counts in crops["train"].values() for size in counts})
    with picture(path, width=6, height=2.6) as figure:
        axes = figure.subplots()
        for i, (kind, counts) in enumerate(crops["train"].items()):
            numbers = [counts.get(str(size), 0) for size in sizes]
            places = [size + 0.4 * i - 0.2 for size in sizes]
            bars = axes.bar(places, numbers, 0.38, color=(BLUE, ORANGE)[i], label=kind)
            axes.bar_label(bars, [f"{n:,}" for n in numbers], padding=2, fontsize=8)
        axes.margins(y=0.15)
        axes.set(xlabel="crops of the pair's line", ylabel="pairs (train)", xticks=sizes)
        axes.legend(frameon=False, title="gold label")


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="MNRE-2 with the published auxiliary files")
    parser.add_argument("audits", type=Path, metavar="AUDITS", help=f"reports of vmhan audit: {', '.join(AUDITED)}")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/leaks"), help="where the files go")
    arguments = parser.parse_args(argv)
    found = count(arguments.folder) | {"audits": {name: read_audit(arguments.audits / name) for name in AUDITED}}
    write_json(arguments.output_dir / "leaks.json", {"about": about_call(__spec__.name, argv), **found})
    draw_order(found["orders"], arguments.output_dir / "order.png")
    draw_crops(found["crops"], arguments.output_dir / "crops.png")
    print("\n\n".join(tables(found)))


if __name__ == "__main__":
    main()
