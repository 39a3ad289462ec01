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

from vmhan.evaluation.sweep.plan import check_names, plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import DONE, FAILURE, check_settings, needs_work
from vmhan.evaluation.sweep.workers import do_runs
from vmhan.training.flags import split_at_dashes, to_entries


__all__ = ["main"]

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is not done, with a bar over all runs."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    own, extra = split_at_dashes(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(own)
    sweep = read_sweep(arguments.sweep)
    chosen = {"datasets": arguments.datasets, "rows": arguments.rows, "seeds": arguments.seeds}
    runs = plan_runs(sweep, arguments.results, **chosen, flags=to_entries(extra))
    check_names("keep_weights", arguments.keep_weights, sweep.rows)
    options = {name: getattr(arguments, name) for name in ("num_proc", "keep_weights", "overwrite")}
    for run in [] if arguments.overwrite else runs:
        check_settings(run)
    missing, failed = [run for run in runs if arguments.overwrite or needs_work(run)], 0
    with tqdm(total=len(runs), initial=len(runs) - len(missing), unit="run") as bar:
        for run, outcome in do_runs(missing, **options):
            if outcome != DONE:
                failed += 1
                bar.write(f"failed: {run.folder / FAILURE}", file=sys.stderr)
            bar.set_postfix_str(f"{run.row} {run.seed}", refresh=False)
            bar.update()
    before = len(runs) - len(missing)
    logger.info("%d runs finished, %d of them before; %d failed", len(runs) - failed, before, failed)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vmhan sweep", description=__doc__.split("\n")[0])
    parser.add_argument("sweep", help="YAML file, or the name of one in configs/sweeps: data sets, rows, seeds.")
    parser.add_argument("--results", default="results", help="Folder of all runs.")
    parser.add_argument("--datasets", nargs="+", help="Only these data sets of the file.")
    parser.add_argument("--rows", nargs="+", help="Only these rows of the file.")
    parser.add_argument("--seeds", nargs="+", type=int, help="In place of the file's.")
    parser.add_argument("--num_proc", type=int, default=2, help="Runs at a time, one thread each.")
    words = "Rows that keep their weights; a run that finished without them is not done again for them."
    parser.add_argument("--keep_weights", nargs="+", default=[], metavar="ROW", help=words)
    parser.add_argument("--overwrite", action="store_true", help="Do finished runs again, whatever their settings.")
    parser.epilog = "Flags of run_mmre.py after -- stand over everything in the file."
    return parser
