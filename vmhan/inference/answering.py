"""Put questions to the pipeline in batches, here or on a Ray cluster. A row that cannot be answered fails alone."""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets_scripts.ray_engine import run_in_order
from model_cards.secrets import without_secrets
from vmhan.inference.answers import answer_rows
from vmhan.inference.question_files import PASSED, read_questions


__all__ = [
    "Answered", "Pipe", "answer_batch", "answer_here", "answer_on_ray", "answer_rows_read", "machine_failures",
    "rows_of_a_job",
]  # fmt: skip

ROWS_A_JOB = 256  # of Ray, in whole batches: few enough to be done again; fewer where not every worker would get
JOBS_A_WORKER = 4  # so many, and more where the file would make more jobs than
MAX_JOBS = 1000  # as each looks for its first row from the start of the file

Question = dict[str, Any]
Pipe = Callable[..., list]


class Answered(NamedTuple):
    """The outcome of some rows: their number, the rows of their answers, and one error for each row that failed."""

    rows: int
    lines: list[dict[str, Any]]
    errors: list[dict[str, Any]]


def answer_here(
    pipe: Pipe, path: Path, image_root: Path, *, skip: int, batch_size: int, with_post: bool = False
) -> Iterator[Answered]:
    """Answer the rows of a file after the first `skip`, a batch at a time. The last bits of an answer depend on what
    else is in its batch, so only whole batches are recorded, and batches begin at the same rows wherever a run was
    killed.
    """
    rows = read_questions(path, image_root=image_root, skip=skip, with_post=with_post)
    numbered = enumerate(rows, start=skip + 1)
    while batch := dict(itertools.islice(numbered, batch_size)):
        yield answer_rows_read(pipe, batch)


def answer_rows_read(pipe: Pipe, batch: dict[int, Question | ValueError]) -> Answered:
    """Answer rows as `read_questions` gives them, by their numbers in the file from 1, in one batch."""
    failed = {number: str(row) for number, row in batch.items() if isinstance(row, ValueError)}
    questions = {number: row for number, row in batch.items() if number not in failed}
    asked = {number: {key: row[key] for key in row if key != PASSED} for number, row in questions.items()}
    answers, unanswered = answer_batch(pipe, asked, len(batch))
    lines = [line for number in answers for line in answer_rows(number, questions[number], answers[number])]
    errors = []
    for number, reason in sorted((failed | unanswered).items()):
        identity = questions.get(number, {}).get("id")
        errors.append(
            {"row": number, "id": None if identity is None else str(identity), "reason": without_secrets(reason)}
        )
    return Answered(len(batch), lines, errors)


def answer_batch(pipe: Pipe, questions: dict[int, Question], batch_size: int) -> tuple[dict[int, Any], dict[int, str]]:
    """Return the answers by row number, and the reasons why other rows have none. A failing batch is asked row by row,
    unless the machine itself has failed, whose error (one of `machine_failures`) is raised.
    """
    if not questions:
        return {}, {}
    try:
        answers = pipe(list(questions.values()), batch_size=batch_size)
        return dict(zip(questions, answers, strict=True)), {}
    except machine_failures():
        raise
    except Exception as error:  # whatever a row can cause must not stop the run
        if len(questions) == 1:
            reason = str(error).removeprefix("input 0: ")  # its place in this list, and not in the file
            return {}, dict.fromkeys(questions, f"{type(error).__name__}: {reason}")
    answers, reasons = {}, {}
    for number, question in questions.items():
        answered, failed = answer_batch(pipe, {number: question}, batch_size)
        answers, reasons = answers | answered, reasons | failed
    return answers, reasons


def machine_failures() -> tuple[type[BaseException], ...]:
    """Errors of the machine, after which every later row would fail as well. Torch's own is one where it answers."""
    torch = sys.modules.get("torch")
    return getattr(torch, "AcceleratorError", MemoryError), MemoryError  # torch before 2.8 has no name for it


def answer_on_ray(
    load_pipe: Callable[[], Pipe],
    path: Path,
    image_root: Path,
    *,
    skip: int,
    total: int,
    batch_size: int,
    with_post: bool = False,
    num_workers: int,
    address: str | None,
) -> Iterator[Answered]:
    """Give the same answers, in the same order and to the same bit, by workers that each call `load_pipe`, read the
    file of `total` rows, and compute on as many threads as this process would. `run_in_order` describes the last two
    arguments.
    """
    import torch  # late, here and below: onnxruntime answers without

    rows = rows_of_a_job(total - skip, batch_size, num_workers)
    jobs = [(start, min(start + rows, total)) for start in range(skip, total, rows)]
    options = {"batch_size": batch_size, "with_post": with_post}
    make_worker = partial(_Answerer, load_pipe, path, image_root, torch.get_num_threads(), **options)
    for answered in run_in_order(jobs, make_worker, num_workers=num_workers, address=address):
        yield Answered(*answered)


def rows_of_a_job(total: int, batch_size: int, workers: int) -> int:
    """How many of `total` rows one of Ray's `workers` answers at a time."""
    rows = max(min(ROWS_A_JOB, total / (JOBS_A_WORKER * workers)), total / MAX_JOBS)
    return max(math.ceil(rows / batch_size), 1) * batch_size


class _Answerer:
    """A Ray worker. A job is a range of the file's rows, in whole batches but for the last."""

    def __init__(self, load_pipe: Callable[[], Pipe], path: Path, image_root: Path, threads: int, **options: Any):
        import torch

        torch.set_num_threads(threads)
        self.answer = partial(answer_here, load_pipe(), path, image_root, **options)
        self.batch_size = options["batch_size"]

    def __call__(self, job: list[int]) -> Answered:
        start, stop = job
        batches = list(itertools.islice(self.answer(skip=start), math.ceil((stop - start) / self.batch_size)))
        lines, errors = (list(itertools.chain(*part)) for part in list(zip(*batches))[1:])
        return Answered(stop - start, lines, errors)
