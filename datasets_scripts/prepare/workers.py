"""Who makes which shard: this process, several processes of this machine (`num_proc`), several launched ones
(`accelerate launch`), or the workers of a Ray cluster (`engine`)."""

import contextlib
import datetime
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from tqdm.auto import tqdm

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.images import write_image_shard
from datasets_scripts.prepare.plan import Plan, Tools, is_whole
from datasets_scripts.prepare.posts import write_post_shard
from datasets_scripts.ray_engine import run_in_order
from model_cards.processes import process_pool


__all__ = ["MakeTools", "launched_processes", "make_shards"]

MakeTools = Callable[[PrepareArguments, "str | None"], Tools]
Job = tuple[str, int]  # "images" or "posts", and the number of the shard

START_METHOD = "spawn"  # forked processes may use neither CUDA nor threads
LONGEST_WAIT = datetime.timedelta(days=30)  # for the slowest process: shards are not equally long


def launched_processes() -> Any:
    """Return `accelerate.PartialState`: this process among those that `accelerate launch` started, or alone."""
    import torch  # these two only here, as they take seconds
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def make_shards(plan: Plan, tools: Tools, make_tools: MakeTools, device: str | None) -> None:
    """Make all shards that are not there yet: first those of images, then those of posts, which need them. Another
    process makes its own `tools` with `make_tools` and `device`. After an error the shards made before stay for the
    next run.
    """
    state = launched_processes()
    with _engine(plan, tools, make_tools, device) as run:
        for kind, shards in plan.shards.items():
            jobs = [(kind, number) for number in range(len(shards))][state.process_index :: state.num_processes]
            total = sum(len(shards[number].rows) for _, number in jobs)
            with tqdm(desc=kind, unit=kind[:-1], total=total, disable=not state.is_main_process) as bar:
                for count in run(jobs):
                    bar.update(count)
            state.wait_for_everyone()


@contextlib.contextmanager
def _engine(
    plan: Plan, tools: Tools, make_tools: MakeTools, device: str | None
) -> Iterator[Callable[[list[Job]], Iterable[int]]]:
    """Yield a function that makes the shards of some jobs and gives the number of rows of each."""
    arguments = plan.arguments
    if arguments.engine == "ray":
        workers = {"num_workers": arguments.num_proc, "address": arguments.ray_address}
        yield partial(run_in_order, make_worker=partial(_worker, plan, make_tools, None), **workers)
    elif arguments.num_proc == 1:
        yield partial(map, partial(_make_shard, plan, tools))
    else:
        start = partial(_start_worker, plan, make_tools, device)
        with process_pool(arguments.num_proc, start, method=START_METHOD) as pool:
            yield partial(pool.map, _work)


def _make_shard(plan: Plan, tools: Tools, job: Job) -> int:
    """Make a shard, unless it is there, and whole; returns the number of its rows."""
    kind, number = job
    shard = plan.shards[kind][number]
    if not is_whole(shard):
        (write_image_shard if kind == "images" else write_post_shard)(plan, tools, shard)
    return len(shard.rows)


def _worker(plan: Plan, make_tools: MakeTools, device: str | None) -> Callable[[Job], int]:
    """Return what makes shards in another process, with tools of its own."""
    return partial(_make_shard, plan, make_tools(plan.arguments, device))


def _start_worker(*arguments: Any) -> None:
    import torch

    global _work_here
    torch.set_num_threads(1)  # the processes share the cores
    _work_here = _worker(*arguments)


def _work(job: Job) -> int:
    return _work_here(job)
