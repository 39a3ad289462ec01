"""Many runs of run_mmre.py by one command, into one results folder; what is finished is not repeated.

    vmhan sweep configs/sweeps/table2.yaml --results results --num_proc 2
    vmhan sweep table1 --rows pcnn full --seeds 1 2 3 -- --num_train_epochs 5

Each run has a folder RESULTS/DATASET/ROW/seed-N with everything that run_mmre.py leaves, settings.json (what was asked
for) and log.txt; a failed one has failed.txt, which says why. Exit code 1 if any failed, 2 for bad input. Kill it and
start it again: finished runs are skipped. Models are selected on validation; test is scored once, at the end.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from tqdm.auto import tqdm

from vmhan.evaluation.sweep.plan import Run, plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import DONE, FAILURE, WEIGHTS, check_settings, needs_work
from vmhan.evaluation.sweep.workers import do_runs
from vmhan.training.flags import to_entries


__all__ = ["main"]

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    argv = list(sys.argv[1:] if argv is None else argv)
    own, extra = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    arguments = _parser().parse_args(own)
    sweep = read_sweep(arguments.sweep)
    chosen = {"datasets": arguments.datasets, "rows": arguments.rows, "seeds": arguments.seeds}
    runs = plan_runs(sweep, arguments.results, **chosen, flags=to_entries(extra))
    _check_rows(arguments.keep_weights, list(sweep.rows))
    if not arguments.overwrite:
        for run in runs:
            check_settings(run)
    return 1 if sweep_runs(runs, arguments) else 0


def sweep_runs(runs: Sequence[Run], arguments: argparse.Namespace) -> list[Run]:
    """Do what is not done, with a bar over all runs; returns the failed ones."""
    missing = [run for run in runs if arguments.overwrite or needs_work(run)]
    options = {name: getattr(arguments, name) for name in ("num_proc", "keep_weights", "overwrite")}
    _warn_of_lost_weights([run for run in runs if run.row in arguments.keep_weights and run not in missing])
    failed = []
    with tqdm(total=len(runs), initial=len(runs) - len(missing), unit="run") as bar:
        for run, outcome in do_runs(missing, **options):
            if outcome != DONE:
                failed.append(run)
                bar.write(f"failed: {run.folder / FAILURE}", file=sys.stderr)
            bar.set_postfix_str(f"{run.row} {run.seed}", refresh=False)
            bar.update()
    logger.info(
        "%d runs finished, %d of them before; %d failed",
        len(runs) - len(failed),
        len(runs) - len(missing),
        len(failed),
    )
    return failed


def _warn_of_lost_weights(finished: Sequence[Run]) -> None:
    """Those rows were to keep their weights, and a finished run is not done again for them."""
    without = [str(run.folder) for run in finished if not (run.folder / WEIGHTS).exists()]
    if without:
        logger.warning(
            "%d runs have no weights, as they finished without --keep_weights: %s. --overwrite does them again",
            len(without),
            ", ".join(without),
        )


def _check_rows(rows: Sequence[str], known: Sequence[str]) -> None:
    unknown = [row for row in rows if row not in known]
    if unknown:
        raise ValueError(f"--keep_weights: expected some of {list(known)}, received {unknown}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vmhan sweep", description=__doc__.split("\n")[0])
    parser.add_argument("sweep", help="YAML file, or the name of one in configs/sweeps: data sets, rows, seeds.")
    parser.add_argument("--results", default="results", help="Folder of all runs.")
    parser.add_argument("--datasets", nargs="+", help="Only these data sets of the file.")
    parser.add_argument("--rows", nargs="+", help="Only these rows of the file.")
    parser.add_argument("--seeds", nargs="+", type=int, help="In place of the file's.")
    parser.add_argument("--num_proc", type=int, default=2, help="Runs at a time, one thread each.")
    parser.add_argument("--keep_weights", nargs="+", default=[], metavar="ROW", help="Rows that keep their weights.")
    parser.add_argument("--overwrite", action="store_true", help="Do finished runs again, whatever their settings.")
    parser.epilog = "Flags of run_mmre.py after -- stand over everything in the file."
    return parser
