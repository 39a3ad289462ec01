"""From raw posts to a data set folder that `load_dataset` opens with no code.

    python -m datasets_scripts.prepare --source mnre --data_dir DIR --captions llava_next \
        --detector torchvision:fasterrcnn_resnet50_fpn_v2 --features vgg16:imagenet --output_dir OUT

Kill it at any moment and run it again: what is finished is not done twice, and the folder comes out the same to the
last byte. `--num_proc 4` shares the work between processes of one machine, `accelerate launch` in front of it between
several devices or machines (with a common file system); neither changes a byte.

`prepare` is the table of contents: the posts (prepare_source), what is to do (prepare_plan), images and their objects
and features (prepare_images), nodes and rows (prepare_posts), the folder (prepare_assemble, prepare_card,
prepare_figures).
"""

import logging
import shutil
import sys
from pathlib import Path

import datasets
from transformers import HfArgumentParser

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.assemble import assemble, check_output, is_finished
from datasets_scripts.prepare.figures import check_matplotlib
from datasets_scripts.prepare.plan import make_plan, work_folder
from datasets_scripts.prepare.push import check_may_be_pushed, check_token, push
from datasets_scripts.prepare.source import open_source
from datasets_scripts.prepare.tools import make_tools
from datasets_scripts.prepare.workers import MakeTools, World, join_world, make_shards


__all__ = ["main", "prepare"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> Path:
    """Read the flags, prepare, and push if that was asked for; returns the folder."""
    parser = HfArgumentParser((PrepareArguments,))
    argv = sys.argv[1:] if argv is None else argv
    (arguments,) = parser.parse_args_into_dataclasses(args=argv, look_for_args_file=False)
    world = join_world()
    datasets.disable_progress_bars()  # those of its inner workings; the preparation has its own
    level = logging.INFO if world.is_main else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)
    try:
        if arguments.push_to_hub and world.is_main:
            check_token()
        output_dir = prepare(arguments, world=world)
        if arguments.push_to_hub and world.is_main:
            push(output_dir, arguments)
    finally:
        world.leave()
    return output_dir


def prepare(arguments: PrepareArguments, *, world: World | None = None, make_tools: MakeTools = make_tools) -> Path:
    """Make the folder `arguments.output_dir`, or find that it is made; nothing is pushed.

    Args:
        arguments: as on the command line.
        world: the launched processes; None is this one alone.
        make_tools: (arguments, device) -> Tools; a function of a module, since each process makes its own.

    Raises:
        ValueError, OSError: the arguments, the source or an image are wrong; the message names the file and the fix.
        ImportError: an optional library is not installed.

    Example:
        >>> prepare(PrepareArguments(source="postcards", output_dir="out", num_train=10))  # doctest: +SKIP
    """
    world = World() if world is None else world
    output_dir = Path(arguments.output_dir).expanduser().resolve()  # a link's own place cannot be taken
    check_output(output_dir)
    if arguments.figures:
        check_matplotlib()
    tools = make_tools(arguments, world.device)
    with world.main_first():
        source = open_source(arguments, cache_dir=work_folder(output_dir) / "source")
    if arguments.push_to_hub:
        check_may_be_pushed(source.posts, allow_leaky=arguments.allow_leaky)  # now, not after hours of work
    plan = make_plan(arguments, source, tools)
    if not is_finished(plan, output_dir):
        make_shards(plan, tools, world, make_tools)
        if world.is_main:
            assemble(plan, output_dir)
    world.wait()
    if world.is_main:
        shutil.rmtree(work_folder(output_dir), ignore_errors=True)
        logger.info("finished: load_dataset(%r, %r)", str(output_dir), arguments.config)
    return output_dir
