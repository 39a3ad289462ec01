"""Jobs shared out over a Ray cluster by Ray Data: one worker a device, results in the order of the jobs.

The only file that imports ray (`pip install 'vmhan[ray]'`) but for the service's. A worker that dies, with its machine
or alone, is started again and its job is done again; so a job must be one that can be repeated.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from model_cards.processes import family


__all__ = ["connected", "device_of_a_worker", "run_in_order"]

MAX_BLOCKS = 1000  # Ray Data's unit of work: one job each, up to so many


def run_in_order(
    jobs: Sequence[Any], make_worker: Callable[[], Callable[[Any], Any]], *, num_workers: int, address: str | None
) -> Iterator[Any]:
    """Yield the result of each job, in their order, as soon as it and all before it are there.

    Jobs and results are JSON-able. `make_worker` is pickled to each of `num_workers` processes and called once there;
    each has a GPU of its own if the cluster has any, else a CPU. The workers' machines need this package, and a file
    system that holds the files under the same paths. `address` is of a running cluster ("auto", "ray://HOST:10001");
    None takes the one that this process is connected to, or starts one on this machine.

    ImportError without Ray; ConnectionError for no cluster at this address; ValueError for more workers than it has
    devices; and what a worker raises, as a ValueError or OSError.
    """
    with connected(num_workers=num_workers, address=address) as ray:
        if not jobs:
            return
        rows = [{"job": json.dumps(job)} for job in jobs]
        data = ray.data.from_items(rows, override_num_blocks=min(len(jobs), MAX_BLOCKS))
        data.context.execution_options.preserve_order = True  # the context of this data set alone
        data.context.enable_progress_bars = data.context.print_on_execution_start = False
        pool, device = ray.data.ActorPoolStrategy(size=num_workers), device_of_a_worker(ray, num_workers)
        done = data.map_batches(_Worker, batch_size=1, fn_constructor_args=(make_worker,), compute=pool, **device)
        for row in done.iter_rows():
            yield _unpacked(row["result"])


@contextlib.contextmanager
def connected(*, num_workers: int, address: str | None, **local: Any) -> Iterator[Any]:
    """Yield the module ray, connected to a cluster as `run_in_order` says; what is started here is stopped at the end,
    also where this process is killed: parts of Ray would live on for a minute, which wait for others of it.
    Workers on this machine import from where this process does. `local` are options of `ray.init` for such a cluster.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("engine ray needs Ray Data, which is not installed: pip install 'vmhan[ray]'") from error
    is_ours = not ray.is_initialized()
    with family() if is_ours and address is None else contextlib.nullcontext():
        if is_ours:
            _connect(ray, num_workers, address, **local)
        try:
            device_of_a_worker(ray, num_workers)
            yield ray
        finally:
            if is_ours:
                ray.shutdown()


def _connect(ray: Any, num_workers: int, address: str | None, **local: Any) -> None:
    if address is None:
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        local |= {"num_cpus": num_workers, "include_dashboard": False}
        local["runtime_env"] = {"env_vars": {"PYTHONPATH": paths}}
    else:
        local = {}
    ray.init(address=address or "local", logging_level="warning", **local)


def device_of_a_worker(ray: Any, num_workers: int) -> dict[str, int]:
    """Return what each worker reserves; a pool that does not fit would be waited for without end."""
    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    if num_workers > resources.get(kind, 0):
        raise ValueError(
            f"num_workers: expected at most {resources.get(kind, 0):.0f}, the {kind}s of the Ray cluster, received "
            f"{num_workers}. Ask for fewer, or add machines with `ray start`."
        )
    return {"num_gpus": 1, "num_cpus": 0} if kind == "GPU" else {"num_cpus": 1}


class _Worker:
    """The object that Ray Data keeps in each worker process."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        self.work = make_worker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            result = {"value": self.work(json.loads(batch["job"][0]))}
        except (ValueError, OSError) as error:  # what a worker's input may raise, and the caller gets back
            result = {"error": isinstance(error, ValueError), "message": str(error)}
        return {"result": [json.dumps(result)]}


def _unpacked(packed: str) -> Any:
    result = json.loads(packed)
    if "error" in result:
        raise (ValueError if result["error"] else OSError)(result["message"])
    return result["value"]
