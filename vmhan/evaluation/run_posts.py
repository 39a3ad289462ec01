"""The posts of a finished run: loaded as the run loaded them, and checked against its predictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from itertools import zip_longest
from typing import Any

import datasets

from vmhan.configs import current_settings


__all__ = ["LOCAL", "load_run_posts"]

# Data arguments that run.json cannot say: folders of the machine.
LOCAL = ("dataset", "data", "images", "data_dir", "cache_dir")

Row = dict[str, Any]


def load_run_posts(
    data: Mapping[str, Any], rows: Sequence[Row], *, local: Mapping[str, str | None], without: Collection[str] = ()
) -> datasets.Dataset:
    """The posts of one split, by the data arguments in a run's run.json, but those of LOCAL by `local` where it has
    them, and none that is in `without`. `rows` are all of the split in predictions.jsonl. ValueError for unknown data
    arguments, for no such split, and for posts whose pairs are not those of `rows`.
    """
    from vmhan.training.arguments import DataArguments, RunArguments  # here: these bring in torch
    from vmhan.training.posts.data import load_posts

    data = current_settings(data)
    unknown = sorted(set(data) - {field.name for field in fields(DataArguments)})
    if unknown:
        raise ValueError(f"run.json: this version knows no data arguments {unknown}. Use the one that made the run.")
    if "features" in without and data.get("visual") != "none":
        without = [*without, "visual"]  # which may ask for features
    given = {name: value for name, value in data.items() if name not in without}
    given |= {name: value for name, value in local.items() if value is not None}
    if given.get("dataset") == "jsonl" and not given.keys() & {"data", "data_dir"}:
        raise ValueError(
            "--data: run.json names no folder of the machine, so give the run's own posts as the run was."
        )
    run_args = RunArguments(output_dir="unused", do_train=False, use_cpu=True)
    splits = load_posts(DataArguments(**given), run_args, "either")
    split = rows[0]["split"]
    if split not in splits:
        raise ValueError(f"split: expected one of the data set's, {list(splits)}, received {split!r}.")
    names = splits[split].features["pairs"].feature["relation"].names
    narrow = splits[split].select_columns(["id", "tokens", "pairs"])
    expected = (_row_of(post, i, names) for post in narrow for i in range(len(post["pairs"])))
    for row, made in zip_longest(rows, expected, fillvalue={}):
        saved = {name: row[name] for name in made if name in row}  # older files have no spans
        differing = {name: (value, made[name]) for name, value in saved.items() if value != made[name]}
        if not saved or differing:
            raise ValueError(
                "expected the posts that predictions.jsonl was made of, in their order, received other ones: post "
                f"{row.get('id')!r}, pair {row.get('pair')} has (predictions.jsonl, data set) {differing}. Give "
                "the run's --dataset, --data_dir and --cache_dir."
            )
    return splits[split]


def _row_of(post: Row, number: int, names: list[str]) -> Row:
    """What predictions.jsonl and a post's pair have in common, as run_mmre.py writes it."""
    pair = post["pairs"][number]
    head, tail = list(pair["head"]), list(pair["tail"] or [])
    words = [" ".join(post["tokens"][slice(*span)]) if span else "[object]" for span in (head, tail)]
    row = {"id": post["id"], "pair": number, "head": words[0], "tail": words[1], "relation": names[pair["relation"]]}
    return row | {"head_span": head, "tail_span": tail or None, "tail_object": pair.get("tail_object", -1)}
