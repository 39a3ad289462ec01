"""What a sweep file asks for: data sets x rows x seeds, each one a run of run_mmre.py with a folder of its own."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_scripts.configs import find_config, flags_of, read_entries
from datasets_scripts.paths import check_name
from model_cards.secrets import is_secret, without_secrets


__all__ = ["Run", "Sweep", "check_names", "plan_runs", "read_sweep"]

ENTRIES = {"datasets", "rows", "seeds", "flags", "reference"}
UNIMPORTANT = ("cache_dir", "output_dir", "disable_tqdm")  # a run's result does not depend on these
FOLDERS = ("data", "images", "data_dir", "generated_images")


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        datasets: name -> {"config": path that opens, "notes": {row: remark of the report}, flag: value, ...}.
        rows: name -> {"title": words, flag: value, ...}, in the report's order.
        seeds: of training; the data stay the same.
        flags: of every run.
        reference: the row that the others are compared with.
    """

    path: Path
    datasets: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Any]]
    seeds: list[int]
    flags: dict[str, Any]
    reference: str

    def title(self, row: str) -> str:
        return self.rows.get(row, {}).get("title", row)


@dataclass(frozen=True)
class Run:
    """One run: `folder` is RESULTS/DATASET/ROW/seed-N, `flags` stand over the entries of the file `config`."""

    dataset: str
    row: str
    seed: int
    folder: Path
    config: str
    flags: dict[str, Any] = field(hash=False)

    def settings(self) -> dict[str, Any]:
        """Everything that was asked for and may change the result, by flag, without secrets; folders of data are
        absolute.
        """
        entries = self._entries()
        left_out = {name for name in entries if name in UNIMPORTANT or is_secret(name)}
        entries = without_secrets({name: value for name, value in sorted(entries.items()) if name not in left_out})
        return entries | {name: os.path.abspath(entries[name]) for name in FOLDERS if name in entries}

    def secrets(self) -> list[str]:
        """The values, such as a token, that no file of the run may hold."""
        values = [value for name, value in self._entries().items() if is_secret(name)]
        flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
        return [str(value) for value in flat if value and value is not True]

    def _entries(self) -> dict[str, Any]:
        return {**read_entries(self.config), **self.flags, "seed": self.seed}

    def argv(self) -> list[str]:
        own = {"seed": self.seed, "output_dir": str(self.folder), "disable_tqdm": True}
        return [self.config, *flags_of({**self.flags, **own})]


def read_sweep(path: str | Path) -> Sweep:
    """Read and check a sweep file; ValueError for an entry that is missing, unknown or not as `Sweep` says."""
    path = find_config(path, "sweeps")
    content = {"seeds": [1], "flags": {}, "reference": "full", **read_entries(path)}
    if set(content) != ENTRIES:
        raise ValueError(
            f"{path}: expected datasets and rows, and perhaps seeds, flags, reference; received {sorted(content)}."
        )
    datasets, rows, flags, seeds = (content[name] for name in ("datasets", "rows", "flags", "seeds"))
    for name, group in (("flags", {"flags": flags}), ("datasets", datasets), ("rows", rows)):
        if not isinstance(group, dict) or not all(isinstance(entries, dict) for entries in group.values()):
            raise ValueError(f"{path}: expected {name} to be 'name: {{flag: value}}' entries, received {group!r}.")
        for owner, entries in group.items():
            check_name(f"{path}, {name}", owner)
            if None in entries.values():  # the config file's value would stand
                raise ValueError(f"{path}: {owner}: expected a value for each flag, received {entries}.")
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise ValueError(f"{path}: expected seeds to be a list of whole numbers, received {seeds!r}.")
    if content["reference"] not in rows:
        raise ValueError(f"{path}: expected reference to be one of rows, received {content['reference']!r}.")
    datasets = {name: {**entries, "config": _config(path, name, entries)} for name, entries in datasets.items()}
    return Sweep(path, datasets, rows, seeds, flags, content["reference"])


def check_names(argument: str, names: Sequence[str] | None, known: Collection[str]) -> None:
    """Raises ValueError if one of the names that --`argument` has is not known."""
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"--{argument}: expected some of {list(known)}, received {unknown}.")


def _config(path: Path, dataset: str, entries: Mapping[str, Any]) -> str:
    """The data set's config of run_mmre.py: a path relative to the sweep file, or the name of a shipped one."""
    try:
        given = str(entries["config"])
        config = path.parent / given
        config = config if config.is_file() else find_config(given)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: datasets.{dataset}: expected config: NAME, a config of run_mmre.py, relative to the sweep file "
            f"or by its name, received {entries.get('config')!r}."
        ) from error
    return os.path.relpath(config) if config.resolve().is_relative_to(Path.cwd()) else str(config.resolve())


def plan_runs(
    sweep: Sweep,
    results: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[Run]:
    """The runs in their order: data sets, then seeds, then rows, so that half a sweep is a whole table of one seed.

    Of `datasets`, `rows` and `seeds` None is all of the file; `flags` go over everything else. ValueError for a data
    set or row that the file does not have.
    """
    check_names("datasets", datasets, sweep.datasets)
    check_names("rows", rows, sweep.rows)
    return [
        Run(
            dataset=dataset,
            row=row,
            seed=seed,
            folder=Path(results) / dataset / row / f"seed-{seed}",
            config=sweep.datasets[dataset]["config"],
            flags=sweep.flags
            | {name: value for name, value in sweep.datasets[dataset].items() if name not in ("config", "notes")}
            | {name: value for name, value in sweep.rows[row].items() if name != "title"}
            | dict(flags or {}),
        )
        for dataset in datasets or sweep.datasets
        for seed in seeds or sweep.seeds
        for row in rows or sweep.rows
    ]
