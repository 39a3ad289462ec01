"""Runs of a sweep that are made at different times: what may be kept of each, and how they stand beside others again.

    python -m benchmarks.findings.kept_runs keep RESULTS docs/leaks/runs
    python -m benchmarks.findings.kept_runs restore RESULTS docs/leaks/runs

RESULTS has DATASET/ROW/seed-N, as `vmhan sweep` makes it. `keep` writes a file a run,
DATASET/ROW/seed-N.json, with the labels that it predicted and its JSON files, but without the data's text and
gold labels, which MNRE's terms keep out of this repository. `restore` writes the kept runs that RESULTS
lacks, without weights and probabilities; text and gold labels are those of a run of the same data set, which
RESULTS must have. A sweep, a report and the other benchmarks take them for runs of their own.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness.command import new_parser
from model_cards.files import write_json, write_text
from model_cards.run_metadata import RUN_FILE, read_object
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.systems import finished_runs


__all__ = ["keep", "main", "restore"]

logger = logging.getLogger(__name__)

JSON_FILES = ("config.json", "metrics.json", "environment.json", "settings.json", RUN_FILE)
OF_A_PAIR = ("split", "id", "pair", "head", "tail", "head_span", "tail_span", "tail_object", "relation")


def keep(results: Path, folder: Path) -> None:
    """Write a file into `folder` for each finished run."""
    for dataset, row, run in _runs(results):
        predictions = read_predictions(run)
        number = {label: i for i, label in enumerate(predictions.labels)}
        kept = {
            "pairs": _digest(predictions),
            "predicted": " ".join(str(number[label]) for label in predictions.predicted),  # one line of the file
            "files": {name: read_object(run / name) for name in JSON_FILES if (run / name).is_file()},
        }
        path = folder / dataset / row / f"{run.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)


def restore(results: Path, folder: Path) -> None:
    """Write a folder into `results` for each kept run that it lacks; ValueError for one about other pairs."""
    of_dataset: dict[str, Predictions] = {}
    for dataset, _, run in _runs(results):
        of_dataset.setdefault(dataset, read_predictions(run))
    for path in sorted(folder.glob("*/*/seed-*.json")):
        dataset, row = path.parts[-3:-1]
        run, example = results / dataset / row / path.stem, of_dataset.get(dataset)
        if run.exists():
            continue
        if example is None:
            logger.warning("%s is left out: %s has no finished run of its data set", path, results)
            continue
        kept = read_object(path)
        if kept["pairs"] != _digest(example):
            raise ValueError(f"{path}: expected a run about the pairs and labels of {example.path}, and it is not.")
        run.mkdir(parents=True)
        predicted = [example.labels[int(number)] for number in kept["predicted"].split()]
        rows = [
            {**{name: of[name] for name in OF_A_PAIR if name in of}, "predicted": label}
            for of, label in zip(example.rows, predicted, strict=True)
        ]
        write_text(run / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        for name, content in kept["files"].items():
            write_json(run / name, content)


def _runs(results: Path) -> Iterator[tuple[str, str, Path]]:
    """Data set, row and folder of each finished run."""
    for dataset in sorted(path for path in results.iterdir() if path.is_dir()):
        for row, runs in finished_runs(dataset).items():
            yield from ((dataset.name, row, run) for run in runs)


def _digest(predictions: Predictions) -> str:
    """Of what they are about."""
    pairs = [[row["split"], row["id"], row["pair"], row["relation"]] for row in predictions.rows]
    return hashlib.sha256(json.dumps([predictions.labels, *pairs]).encode()).hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("what", choices=("keep", "restore"))
    parser.add_argument("results", type=Path, metavar="RESULTS", help="results folder of a sweep")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where runs are kept")
    arguments = parser.parse_args(argv)
    {"keep": keep, "restore": restore}[arguments.what](arguments.results, arguments.folder)


if __name__ == "__main__":
    main()
