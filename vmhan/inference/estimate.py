"""What a run would take, measured on a sample of its rows before it is begun (`vmhan predict --dry_run`).

Seconds are charged to the innermost part that is going on. What more workers would take is simulated from the measured
parts: each worker answers jobs of rows, and the process that asked for them records the answers in their order.
"""

import heapq
import itertools
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from datasets_scripts.commands import aligned
from vmhan.inference.answering import answer_rows_read, rows_of_a_job
from vmhan.inference.detecting import DetectingPipeline
from vmhan.inference.question_files import read_questions
from vmhan.inference.resumable import Make, ResumableOutput
from vmhan.training.environment import peak_bytes


__all__ = ["Parts", "Sample", "estimate", "measure", "run_seconds"]

BATCHES = 16  # of the sample, spread over the file
WORKERS = (1, 8, 64, 512)
PARTS = {
    "read": "rows are read from the file",
    "detect": "objects are sought in pictures",
    "decode": "pictures are opened and cropped, sentences tokenised",
    "vision": "regions are encoded",
    "text": "sentences are encoded",
    "head": "the rest of the model's pass",
    "answers": "batches are put together, answers made of scores",
    "write": "answers are recorded, and made into the output",
}


class Parts:
    """Seconds by part, each without those of the parts within it."""

    def __init__(self, device: torch.device):
        self.seconds: Counter[str] = Counter()
        self._device, self._open, self._since = device, [], 0.0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """From now on `owner.name(...)` is charged to `part`."""
        call = getattr(owner, name)

        def timed_call(*args: Any, **kwargs: Any) -> Any:
            with self.timed(part):
                return call(*args, **kwargs)

        setattr(owner, name, timed_call)


class Sample(NamedTuple):
    """What was measured: rows, seconds of all of them by part, bytes that a row takes on the disk, and in memory the
    most that this process and the tensors of its GPU had.
    """

    rows: int
    seconds: Mapping[str, float]
    bytes_a_row: float
    memory: int
    gpu_memory: int

    def a_row(self, *parts: str) -> float:
        """Seconds that these parts take for a row."""
        return sum(self.seconds.get(part, 0.0) for part in parts) / self.rows


def measure(
    pipe: Any,
    path: Path,
    image_root: Path,
    products: Mapping[Path, Make],
    *,
    total: int,
    batch_size: int,
    **reading: Any,
) -> Sample:
    """Answer up to `BATCHES` batches, spread over the file's `total` rows, and write them to a folder that is removed
    then. The first batch is answered once before, as it takes longer. `pipe` stays under the clock.
    """
    parts = _under_the_clock(pipe)
    batches = math.ceil(total / batch_size)
    starts = sorted({i * batches // BATCHES * batch_size for i in range(BATCHES)})
    rows, lines, errors = 0, [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output = ResumableOutput(folder / "answers", {})
        for i, start in enumerate(tqdm([starts[0], *starts], desc="sample", unit="batch")):
            questions = read_questions(path, image_root=image_root, skip=start, **reading)
            batch = {start + 1: next(questions)}  # not timed: it reads the rows before it too
            with parts.timed("read"):
                batch.update(enumerate(itertools.islice(questions, batch_size - 1), start + 2))
            with parts.timed("answers"):
                answered = answer_rows_read(pipe, batch)
            if i == 0:
                parts.seconds.clear()
                if (vision := pipe.model.vmhan.vision_encoder) is not None:
                    vision.remembered.clear()  # the pictures of this batch, which is the first of the sample too
                continue
            rows, lines, errors = rows + answered.rows, lines + answered.lines, errors + answered.errors
        with parts.timed("write"):  # at once, as the answers of a job
            output.append(rows, lines, errors)
        recorded = output.part.stat().st_size
        with parts.timed("write"):
            output.finish({folder / path.name: make for path, make in products.items()})
        written = sum(file.stat().st_size for file in folder.iterdir())
    gpu_memory = torch.cuda.max_memory_allocated(pipe.device) if pipe.device.type == "cuda" else 0
    return Sample(rows, parts.seconds, (recorded + written) / rows, peak_bytes(), gpu_memory)


def _under_the_clock(pipe: Any) -> Parts:
    parts, inner = Parts(pipe.device), pipe
    if isinstance(pipe, DetectingPipeline):
        parts.wrap(pipe, "with_objects", "detect")
        inner = pipe.pipe
    parts.wrap(inner, "preprocess", "decode")
    parts.wrap(inner, "_forward", "head")
    parts.wrap(inner.model.vmhan, "encode_regions", "vision")
    parts.wrap(inner.model.vmhan, "encode_text", "text")
    return parts


def run_seconds(jobs: int, *, job: float, record: float, workers: int, start: float) -> float:
    """Seconds until `jobs` jobs are done and recorded: `workers` begin after `start` and take `job` for each, of which
    the results are recorded in the jobs' order by one process, which takes `record` for each.
    """
    free, recorded = [start] * workers, start
    for _ in range(jobs):
        done = heapq.heappop(free) + job
        heapq.heappush(free, done)
        recorded = max(recorded, done) + record
    return recorded


def estimate(sample: Sample, *, total: int, batch_size: int, start: float, workers: int) -> str:
    """The tables that `--dry_run` prints, for a file of `total` rows; `start` is what it took to load the model."""
    by_part = [("part", "ms a row", "rows a second", "")]
    for part, what in PARTS.items():
        if seconds := sample.a_row(part):
            by_part.append((part, f"{1000 * seconds:,.2f}", f"{1 / seconds:,.0f}", what))
    answer, record = sample.a_row(*(part for part in PARTS if part != "write")), sample.a_row("write")
    alone = answer + record
    by_part.append(("all", f"{1000 * alone:,.2f}", f"{1 / alone:,.0f}", f"of {sample.rows:,} rows, one process"))
    by_workers = [("workers", "minutes", "rows a second", "memory, GB", "")]
    for count in sorted({*WORKERS, workers}):
        is_one = count == 1  # this process, without Ray
        rows = min(rows_of_a_job(total, batch_size, count), total)
        job = {"job": rows * answer, "record": rows * record, "start": start}
        seconds = start + total * alone if is_one else run_seconds(math.ceil(total / rows), workers=count, **job)
        memory = sample.memory * (count + (not is_one)) / 1e9
        of_gpu = f"and {sample.gpu_memory / 1e9:.1f} of each GPU" if sample.gpu_memory else ""
        by_workers.append((f"{count:,}", f"{seconds / 60:,.1f}", f"{total / seconds:,.0f}", f"{memory:,.1f}", of_gpu))
    lines = [
        f"{total:,} rows, {total * sample.bytes_a_row / 1e9:,.3f} GB on the disk. The model loads in {start:.1f} s.",
        *aligned(by_part),
        *aligned(by_workers),
        f"One process records what all workers answer: it keeps up with {answer / record:,.0f} of them.",
        "No answer was kept.",
    ]
    return "\n".join(lines)
