"""Kills, two processes at one output, fuzzed posts, hostile servers and odd pictures: tried and handled, as a table.

    make reliability                                                          all of it, into docs/reliability.md
    PYTHONPATH=tests/helpers python tests/reliability/run.py predict fuzz --kills 5     some of it

A kill is handled when the command, started again, ends with what an undisturbed run leaves, byte for byte but for
times and paths; a post when it gets finite scores, or an error that names post and value; a server when the error
comes in time and nothing stays behind; a picture when it looks as numpy says, or is an error that names it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import input_trials
import kill_trials
import torch
from tqdm.auto import tqdm


Outcome = tuple[int, str]  # how many trials it stands for, and what was wrong, or ""
BEGIN, END = "<!-- what tests/reliability/run.py found -->\n", "<!-- end -->\n"


def trials(arguments: argparse.Namespace, folder: Path) -> dict[str, tuple[str, int, Iterator[Outcome]]]:
    """{name: (title, how many trials, their outcomes)}, none begun."""
    known = {}
    for name in kill_trials.COMMANDS:
        outcomes = kill_trials.kill_trials(name, folder, kills=arguments.kills)
        known[name] = (f"`kill -9` of `vmhan {name}` at a random moment", arguments.kills, outcomes)
        outcomes = kill_trials.two_at_once(name, folder, arguments.twice)
        known[f"two {name}"] = (f"two `vmhan {name}` with one output", arguments.twice, outcomes)
    known["fuzz"] = (
        "fuzzed posts, asked of the pipeline",
        arguments.posts,
        input_trials.fuzz_trials(folder, arguments.posts),
    )
    known["rows"] = ("fuzzed rows of JSONL", arguments.posts, input_trials.row_trials(arguments.posts))
    known["servers"] = ("hostile servers, asked for a picture", *input_trials.server_trials())
    known["pictures"] = ("odd and damaged pictures", *input_trials.picture_trials())
    return known


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials, print the table, and return 1 if anything was not handled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="TRIAL", help="only these; without any, all")
    parser.add_argument("--kills", type=int, default=25, help="of each command (default 25)")
    parser.add_argument("--twice", type=int, default=5, help="times that two processes share an output (default 5)")
    parser.add_argument("--posts", type=int, default=20_000, help="fuzzed posts, and rows (default 20,000)")
    parser.add_argument("--folder", type=Path, help="where the commands work (default: a new one, which is kept)")
    parser.add_argument("--page", type=Path, help="put the table into this page, between its two marks")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    known = trials(arguments, arguments.folder or Path(tempfile.mkdtemp(prefix="reliability-")))
    if unknown := set(arguments.names) - known.keys():
        parser.error(f"TRIAL: expected some of {list(known)}, received {sorted(unknown)}")
    lines, all_handled = ["| trial | tried | handled | minutes |", "| --- | --- | --- | --- |"], True
    for name, (title, total, outcomes) in known.items():
        if not arguments.names or name in arguments.names:
            started = time.monotonic()
            tried, handled = count(name, total, outcomes)
            lines.append(f"| {title} | {tried:,} | {handled:,} | {(time.monotonic() - started) / 60:.1f} |")
            all_handled &= tried == handled
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.page:
        before, _, rest = arguments.page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        arguments.page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return int(not all_handled)


def count(name: str, total: int, outcomes: Iterator[Outcome]) -> tuple[int, int]:
    """How many were tried and handled; what was not is said."""
    tried = handled = 0
    with tqdm(desc=name, total=total) as bar:
        for number, problem in outcomes:
            tried, handled = tried + number, handled + number * (not problem)
            bar.update(number)
            if problem:
                bar.write(f"{name}: {problem[:1000]}", file=sys.stderr)
    return tried, handled


if __name__ == "__main__":
    sys.exit(main())
