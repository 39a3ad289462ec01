"""How much does the service cost over calling the pipeline? Posts per second and latencies, as ratios of one run.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.serving MODEL --data_dir MNRE_DIR --rounds 5

`vmhan serve` runs on loopback with one replica. In each round the pipeline, called in this process in batches of 16,
and so many clients, each of which sends a post when it has the answer to its last one, take turns over the same posts.
Writes serving.json with every latency, and prints a table: posts per second against the pipeline's, medians and
quartiles of the ratios within the rounds, and percentiles of the latency of a request over all rounds. On a busy
machine the processor time of a post in each process, measured once with the most clients, says more than the wall's.
"""

import contextlib
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import transformers

from benchmarks.harness.cells import between
from benchmarks.harness.command import about_call, new_parser
from benchmarks.harness.posts import load_posts, text_alone
from benchmarks.harness.timing import ratio, spread, take_turns
from model_cards.files import write_json
from model_cards.tables import markdown_table
from modeling_vmhan.registration import TASK
from vmhan.inference.serve.engine import Settings, served


__all__ = ["main", "percentiles", "table"]

BATCH = 16
PIPELINE = "pipeline"
PERCENTILES = (50, 95, 99)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the report."""
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("model", type=Path, help="folder of a trained model that reads text")
    parser.add_argument("--data_dir", help="MNRE's files (default: drawn postcards)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at once (default 1 8 32)")
    parser.add_argument("--batches", type=int, default=16, help="posts, in batches of 16 (default 16)")
    parser.add_argument("--rounds", type=int, default=5, help="of turns (default 5)")
    parser.add_argument("--port", type=int, default=8765, help="of the service (default 8765)")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/serving"), help="where serving.json goes")
    arguments = parser.parse_args(argv)
    load = partial(transformers.pipeline, TASK, model=str(arguments.model.absolute()))
    posts, _ = load_posts(arguments.data_dir, BATCH, arguments.batches)
    questions = [text_alone(post) for post in posts]
    pipe, loads = load(), [os.getloadavg()[0]]
    latencies: dict[str, list[float]] = {str(count): [] for count in arguments.clients}
    subjects = {PIPELINE: [partial(pipe, questions, batch_size=BATCH)]}
    with served(load, Settings(port=arguments.port, batch_size=BATCH)) as address:
        for count in arguments.clients:
            subjects[str(count)] = [partial(_ask_all, address, questions, count, latencies[str(count)])]
        times = take_turns(subjects, arguments.rounds)
        processor = _processor_seconds(partial(_ask_all, address, questions, max(arguments.clients), []))
    loads.append(os.getloadavg()[0])
    for count, of_clients in latencies.items():  # take_turns' own first turn is not timed
        latencies[count] = of_clients[len(questions) :]
    about = about_call(__spec__.name, argv, posts=len(questions), load_average=loads)
    seconds = {name: of["wall"] for name, of in times.items()}
    processor[PIPELINE] = statistics.median(times[PIPELINE]["processor"])
    report = {"about": about, "seconds": seconds, "processor": processor, "latencies": latencies}
    write_json(arguments.output_dir / "serving.json", report)
    spent = ", ".join(f"{name} {1000 * of / len(questions):.1f}" for name, of in processor.items())
    print(table(seconds, latencies, len(questions)), f"processor time of a post, ms: {spent}", sep="\n\n")


def _ask_all(address: str, questions: Sequence[Any], clients: int, latencies: list[float]) -> None:
    """Send every post, one a request, by so many clients; their seconds are put to `latencies`."""
    bodies = [json.dumps(question).encode() for question in questions]
    with ThreadPoolExecutor(clients) as pool:
        for of_client in pool.map(partial(_ask, address), (bodies[start::clients] for start in range(clients))):
            latencies.extend(of_client)


def _ask(address: str, bodies: Sequence[bytes]) -> list[float]:
    connection, seconds = http.client.HTTPConnection(urlsplit(address).netloc), []
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        seconds.append(time.perf_counter() - start)
        if response.status != 200:
            raise OSError(f"the service answers with status {response.status}: {content[:200]!r}")
    connection.close()
    return seconds


def _processor_seconds(work: Callable[[], None]) -> dict[str, float]:
    """What `work` costs the processes of the service and this one, the client."""
    parts = {"ServeReplica": "replica", "ProxyActor": "proxy", "ServeController": "controller"}
    own, found = psutil.Process(), {}
    for process in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found |= {name: process for part, name in parts.items() if part in " ".join(process.cmdline())}
    found["clients"] = own

    def spent() -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in found.items()}

    before = spent()
    work()
    after = spent()
    return {name: after[name] - before[name] for name in found}


def percentiles(latencies: Sequence[float]) -> list[float]:
    """Seconds of PERCENTILES."""
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return [cuts[percent - 1] for percent in PERCENTILES]


def table(seconds: Mapping[str, Sequence[float]], latencies: Mapping[str, Sequence[float]], posts: int) -> str:
    """A row for the pipeline, and one for each number of clients."""
    rows = [[f"pipeline, batches of {BATCH}", f"{posts / spread(seconds[PIPELINE])[1]:.0f}", "1", "", "", "", ""]]
    for count, of_clients in latencies.items():
        against = between(*ratio(seconds[PIPELINE], seconds[count]), ".2f")
        of_requests = percentiles(of_clients)
        shown = [f"{1000 * value:.0f}" for value in of_requests]
        speed = f"{posts / spread(seconds[count])[1]:.0f}"
        name = f"{count} client{'s' * (count != '1')}"
        rows.append([name, speed, against, *shown, f"{of_requests[-1] / of_requests[0]:.1f}"])
    heads = [
        "",
        "posts a second",
        "against the pipeline (quartiles)",
        *(f"p{of} (ms)" for of in PERCENTILES),
        "p99 / p50",
    ]
    return markdown_table(heads, rows)


if __name__ == "__main__":
    main()
