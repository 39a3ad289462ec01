"""Who makes which shard: several processes of one machine (`num_proc`), several launched ones (`accelerate launch`),
or the workers of a Ray cluster (`engine`).

A shard is made by one process on one thread, with batches of its own, so that its bytes do not depend on how many
processes there are.
"""

import contextlib
import datetime
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.images import write_image_shard
from datasets_scripts.prepare.plan import Plan, device_type
from datasets_scripts.prepare.posts import write_post_shard
from datasets_scripts.prepare.tools import Tools
from datasets_scripts.ray_engine import run_in_order


__all__ = ["MakeTools", "World", "join_world", "make_shards"]

MakeTools = Callable[[PrepareArguments, "str | None"], Tools]
Job = tuple[str, "str | None", int]  # "images" or "posts", split of posts, number of the shard

START_METHOD = "spawn"  # forked processes may use neither CUDA nor threads
SECONDS_BETWEEN_LOOKS = 0.2
LONGEST_WAIT = datetime.timedelta(days=30)  # for the slowest process: shards are not equally long


@dataclass(frozen=True)
class World:
    """The launched processes: this one's rank, how many there are, and the device of each (None: the tool chooses)."""

    rank: int = 0
    size: int = 1
    device: str | None = None
    state: Any = None  # accelerate.PartialState

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.state is not None:
            self.state.wait_for_everyone()

    def leave(self) -> None:
        if self.state is not None:
            self.state.destroy_process_group()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The others wait until the main process has done this."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


def join_world() -> World:
    """The world of `accelerate launch` or `torchrun`; of this process alone if neither started it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    import torch  # these two only here: most preparations do without
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    return World(state.process_index, state.num_processes, str(state.device), state)


def make_shards(plan: Plan, tools: Tools, world: World, make_tools: MakeTools) -> None:
    """Make all shards that are not there yet: first all of images, then all of posts.

    Raises:
        ValueError: a bad image, a selection that cannot be; the shards made before stay for the next run.
    """
    image_jobs = [("images", None, shard) for shard in range(len(plan.image_shards()))]
    post_jobs = [("posts", s, shard) for s in plan.source.posts for shard in range(len(plan.post_shards(s)))]
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _runner(plan, tools, world, make_tools) as run:
        for kind, jobs in (("images", image_jobs), ("posts", post_jobs)):
            mine = jobs[world.rank :: world.size]
            missing = [job for job in mine if not _file(plan, job).is_file()]
            with tqdm(desc=kind, unit=kind[:-1], total=_size(plan, mine), disable=not world.is_main) as bar:
                bar.update(_size(plan, mine) - _size(plan, missing))
                run(missing, bar)
            world.wait()  # posts need the images of all


@contextlib.contextmanager
def _runner(
    plan: Plan, tools: Tools, world: World, make_tools: MakeTools
) -> Iterator[Callable[[list[Job], tqdm], None]]:
    """What does jobs and moves the bar: Ray's workers, `num_proc` processes of this machine, or this one alone."""
    if plan.arguments.engine == "ray":
        if world.size > 1:
            raise ValueError(
                f"engine: expected processes under accelerate launch, received ray in one of {world.size} processes. "
                "Start it with python: Ray starts its workers itself"
            )
        yield partial(_run_on_ray, plan, make_tools)
    elif plan.arguments.num_proc == 1:
        yield partial(_run_alone, plan, tools)
    else:
        context = multiprocessing.get_context(START_METHOD)
        _WORKER["counter"] = context.Value("q", 0)
        arguments = (plan, make_tools, world.device, _WORKER["counter"])
        with ProcessPoolExecutor(plan.arguments.num_proc, context, _start_worker, arguments) as pool:
            yield lambda jobs, bar: _wait_for(pool, [pool.submit(_work, job) for job in jobs], bar)


def _run_alone(plan: Plan, tools: Tools, jobs: list[Job], bar: tqdm) -> None:
    with _one_thread():
        for job in jobs:
            _do(plan, tools, job, bar.update)


def _run_on_ray(plan: Plan, make_tools: MakeTools, jobs: list[Job], bar: tqdm) -> None:
    """The shards are files, so the workers' machines share a file system; only their numbers travel."""
    make_worker = partial(_RayWorker, plan, make_tools)
    workers = {"num_workers": plan.arguments.num_proc, "address": plan.arguments.ray_address}
    for count in run_in_order(jobs, make_worker, **workers):
        bar.update(count)


class _RayWorker:
    """Tools of its own, and the shards that it is given; one made before it died is not made again."""

    def __init__(self, plan: Plan, make_tools: MakeTools):
        self.plan, self.tools = plan, make_tools(plan.arguments, None)

    def __call__(self, job: Job) -> int:
        if (found := device_type()) != self.plan.provenance["device"]:
            raise ValueError(
                f"engine: expected Ray workers on {self.plan.provenance['device']}, as the process that started them, "
                f"received one on {found}. Start it on a machine like theirs"
            )
        if not _file(self.plan, job).is_file():
            with _one_thread():
                _do(self.plan, self.tools, job, lambda count: None)
        return _size(self.plan, [job])


def _wait_for(pool: ProcessPoolExecutor, running: list[Future], bar: tqdm) -> None:
    """Until all are done or one fails, whose error is raised; the bar shows what is counted meanwhile."""
    counter = _WORKER["counter"]
    before = counter.value
    while running:
        done, still_running = wait(running, SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION)
        if counter.value > before:
            bar.update(counter.value - before)
            before = counter.value
        for future in done:
            if future.exception():
                pool.shutdown(cancel_futures=True)
                raise future.exception()
        running = list(still_running)


_WORKER: dict[str, Any] = {}  # of a process of the pool: plan, tools, counter; of the one that started it: counter


def _start_worker(plan: Plan, make_tools: MakeTools, device: str | None, counter: Any) -> None:
    _WORKER.update(plan=plan, tools=make_tools(plan.arguments, device), counter=counter)


def _work(job: Job) -> None:
    def count(number: int) -> None:
        with _WORKER["counter"].get_lock():
            _WORKER["counter"].value += number

    with _one_thread():
        _do(_WORKER["plan"], _WORKER["tools"], job, count)


def _do(plan: Plan, tools: Tools, job: Job, progress: Callable[[int], Any]) -> None:
    kind, split, shard = job
    if kind == "images":
        write_image_shard(plan, tools, shard, progress=progress)
    else:
        write_post_shard(plan, tools, split, shard, progress=progress)


def _file(plan: Plan, job: Job) -> Path:
    kind, split, shard = job
    return plan.image_file(shard) if kind == "images" else plan.post_file(split, shard)


def _size(plan: Plan, jobs: list[Job]) -> int:
    """Images or posts in these shards."""
    return sum(len((plan.image_shards() if k == "images" else plan.post_shards(s))[shard]) for k, s, shard in jobs)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread, as sums over several differ in their last bits from sums over one."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
