"""From raw posts to a data set folder that `load_dataset` opens with no code.

    vmhan prepare --source mnre --data_dir DIR --captions llava_next \
        --detector torchvision:fasterrcnn_resnet50_fpn_v2 --features vgg16:imagenet --output_dir OUT
    vmhan prepare mnre_paper --data_dir DIR --dry_run

A configuration may come first, by name (of `configs/prepare/`) or path; flags override it.

Kill it at any moment and run it again: the shards that are finished are not made twice. One preparation at a time
writes a folder; a second one ends at once, and names the first. `--num_proc 4` shares the work
between processes of one machine, `accelerate launch -m datasets_scripts.prepare` between several devices or machines
with a common file system, `--engine ray` between the workers of a Ray cluster.

`prepare` is the table of contents: the posts (`source`), what is to do (`plan`), who does it (`workers`), images and
their objects and features (`images`), nodes and rows (`posts`), and the folder (`assemble`, `card`, `figures`).
"""

import contextlib
import importlib.util
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from transformers import HfArgumentParser

from datasets_scripts.commands import parse_dataclasses
from datasets_scripts.configs import with_config
from datasets_scripts.leaks import leak_status
from datasets_scripts.prepare.arguments import ARGUMENT_GROUPS, PrepareArguments
from datasets_scripts.prepare.assemble import assemble, check_output, is_finished
from datasets_scripts.prepare.estimate import estimate
from datasets_scripts.prepare.plan import Plan, Tools, make_plan, make_tools, work_folder
from datasets_scripts.prepare.source import open_source
from datasets_scripts.prepare.workers import MakeTools, launched_processes, make_shards
from model_cards.locks import lock_beside, locked_by_main
from model_cards.processes import end_with_launcher
from model_cards.publishing import check_access, check_repo_id, publish_dataset


__all__ = ["dry_run", "main", "prepare"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> Path | None:
    """Read the flags, prepare, and push if that was asked for; returns the folder, or None after a dry run."""
    parser = HfArgumentParser(
        ARGUMENT_GROUPS,
        prog="vmhan prepare",
        usage="vmhan prepare [CONFIG] [--flag value ...]",
        description="Make a data set folder of raw posts.",
    )
    groups = parse_dataclasses(parser, with_config(sys.argv[1:] if argv is None else argv, "prepare"))
    arguments = PrepareArguments(**{name: value for group in groups for name, value in vars(group).items()})
    end_with_launcher()
    state = launched_processes()
    datasets.disable_progress_bars()  # those of its inner workings; the preparation has its own
    level = logging.INFO if state.is_main_process else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)
    for name in ("httpx", "httpx2"):  # of openai: a line a request
        logging.getLogger(name).setLevel(logging.WARNING)
    if arguments.dry_run:
        print(dry_run(arguments))
        return None
    pushes = arguments.push_to_hub and state.is_main_process
    try:
        with _only_here(arguments, state) as output_dir:
            if pushes:
                check_repo_id("push_to_hub", arguments.push_to_hub)
                check_access()
            prepare(arguments)
            if pushes:
                publish_dataset(output_dir, arguments.push_to_hub, private=arguments.private or None)
    finally:
        state.destroy_process_group()
    return output_dir


def prepare(arguments: PrepareArguments, *, make_tools: MakeTools = make_tools) -> Path:
    """Make the folder `arguments.output_dir`, or find that it is made; nothing is pushed. Each process makes its own
    tools by `make_tools`, a function of a module. A ValueError or OSError names what is wrong and the fix; a
    BusyError, another process that prepares this folder; an ImportError, a library.
    """
    state = launched_processes()
    with _only_here(arguments, state) as output_dir:
        _prepare(arguments, make_tools, state, output_dir)
    return output_dir


def dry_run(arguments: PrepareArguments, *, make_tools: MakeTools = make_tools) -> str:
    """Tell what `prepare` would still have to do. Only the weights of the tools are fetched, if they are not here."""
    output_dir = Path(arguments.output_dir).expanduser().resolve()
    with tempfile.TemporaryDirectory() as cache_dir:
        plan, tools = _planned(arguments, make_tools, launched_processes(), output_dir, Path(cache_dir))
        return f"{output_dir} is finished" if is_finished(plan, output_dir) else estimate(plan, tools)


@contextlib.contextmanager
def _only_here(arguments: PrepareArguments, state: Any) -> Iterator[Path]:
    """Yield the folder to make, which no other preparation makes meanwhile."""
    output_dir = Path(arguments.output_dir).expanduser().resolve()  # a link's own place cannot be taken
    with locked_by_main(lock_beside(output_dir), f"output_dir {output_dir}", state):
        yield output_dir


def _prepare(arguments: PrepareArguments, make_tools: MakeTools, state: Any, output_dir: Path) -> None:
    plan, tools = _planned(arguments, make_tools, state, output_dir, work_folder(output_dir) / "source")
    if not is_finished(plan, output_dir):
        make_shards(plan, tools, make_tools, _device(state))
        if state.is_main_process:
            assemble(plan, output_dir)
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.rmtree(work_folder(output_dir), ignore_errors=True)
        logger.info("finished: load_dataset(%r, %r)", str(output_dir), arguments.config)


def _planned(
    arguments: PrepareArguments, make_tools: MakeTools, state: Any, output_dir: Path, cache_dir: Path
) -> tuple[Plan, Tools]:
    """Check what would fail late, make the tools, build the posts in `cache_dir`, and plan."""
    check_output(output_dir)
    if arguments.figures and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "figures: expected matplotlib to draw them with, found none. pip install 'vmhan[report]', or pass "
            "--figures false"
        )
    tools = make_tools(arguments, _device(state))
    with state.main_process_first():  # the others find the posts built
        source = open_source(arguments, cache_dir=cache_dir)
    if arguments.push_to_hub and not arguments.allow_leaky and (reasons := leak_status(source.posts)):
        raise ValueError(  # now, and not after hours of work
            f"push_to_hub: expected a data set that does not give its labels away, received one marked as leaky: "
            f"{' '.join(reasons)} If it is to be published nevertheless, mark and all, pass --allow_leaky true"
        )
    return make_plan(arguments, source, tools, output_dir), tools


def _device(state: Any) -> str | None:
    """Of this one of several launched processes; None: each tool chooses."""
    return str(state.device) if state.num_processes > 1 else None
