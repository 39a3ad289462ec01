"""Where does the time of a training step go? Its parts, and its operators.

    OMP_NUM_THREADS=1 python -m benchmarks.speed --parts breakdown --encoder offline --data_dir MNRE_DIR

A step is cut at the text encoder's states: the head's backward pass ends there and the encoder's begins there, which
changes no gradient. The parts are the encoder forward, all that follows it forward (`head`), both backward, and AdamW.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.competitors import Batch, Competitor
from benchmarks.timing import CLOCKS, ratio, spread, take_turns, wait_for


__all__ = ["PARTS", "breakdown_markdown", "measure_breakdown", "step_in_parts"]

PARTS = ("encoder forward", "head forward", "head backward", "encoder backward", "optimizer")
ENCODER = ("encoder forward", "encoder backward")
OPERATORS = 8  # that take the most time
REFERENCE = "marker"

Seconds = dict[str, float]


def measure_breakdown(
    competitors: dict[str, Competitor], encoder: nn.Module, rounds: int, *, clock: str, device: str
) -> dict[str, Any]:
    """By competitor: `work` of a round, `seconds` of each part in each round, and the `operators` with most time.

    Args:
        encoder: the text encoder of all competitors. clock: of `CLOCKS`.
    """
    steps: dict[str, list[Seconds]] = {name: [] for name in competitors}
    turns = {}
    for name, competitor in competitors.items():
        competitor.model.train()
        turns[name] = [
            partial(_note_step, steps[name], competitor, batch, encoder, CLOCKS[clock], device)
            for batch in competitor.batches
        ]
    take_turns(turns, rounds, device=device)
    rows = {}
    for name, competitor in competitors.items():
        count, timed = len(competitor.batches), steps[name][1:]  # the first is the warm-up
        by_round = [timed[start : start + count] for start in range(0, len(timed), count)]
        seconds = {part: [sum(step[part] for step in of_round) for of_round in by_round] for part in PARTS}
        rows[name] = {"work": competitor.work, "seconds": seconds, "operators": operator_shares(competitor)}
    return {"clock": clock, "rows": rows}


def _note_step(steps: list[Seconds], *step: Any) -> None:
    steps.append(step_in_parts(*step))


def step_in_parts(
    competitor: Competitor, batch: Batch, encoder: nn.Module, now: Callable[[], float], device: str = "cpu"
) -> Seconds:
    """One training step, the seconds of each of `PARTS`; gradients and weights as by `Competitor.turns`."""
    marks: dict[str, float] = {}
    states: list[Tensor] = []  # as the encoder made them, and as the head reads them

    def mark(name: str) -> None:
        wait_for(device)
        marks[name] = now()

    def before_encoder(*_: Any) -> None:
        mark("encoder starts")

    def after_encoder(module: nn.Module, inputs: Any, output: Any) -> Any:
        mark("encoder ends")
        states.extend([output.last_hidden_state, output.last_hidden_state.detach().requires_grad_()])
        output.last_hidden_state = states[1]
        return output

    hooks = [encoder.register_forward_pre_hook(before_encoder), encoder.register_forward_hook(after_encoder)]
    try:
        mark("start")
        loss = competitor.model(**batch).loss
        mark("forward done")
    finally:
        for hook in hooks:
            hook.remove()
    loss.backward()
    mark("head backward done")
    states[0].backward(states[1].grad)
    mark("backward done")
    competitor.update()
    mark("done")
    encoding = marks["encoder ends"] - marks["encoder starts"]
    return {
        "encoder forward": encoding,
        "head forward": marks["forward done"] - marks["start"] - encoding,
        "head backward": marks["head backward done"] - marks["forward done"],
        "encoder backward": marks["backward done"] - marks["head backward done"],
        "optimizer": marks["done"] - marks["backward done"],
    }


def operator_shares(competitor: Competitor) -> list[dict[str, Any]]:
    """The operators of PyTorch in which a pass over the batches spends most of the processor's time."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for turn in competitor.turns(training=True, bf16=False):
            turn()
    operators = sorted(profiler.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in operators)
    return [
        {"name": row.key, "share": row.self_cpu_time_total / total, "calls": row.count}
        for row in operators[:OPERATORS]
    ]


def breakdown_markdown(title: str, part: dict[str, Any]) -> list[str]:
    """Lines: milliseconds a pair of each part, how the encoder alone follows the tokens, the operators."""
    rows = part["rows"]
    lines = ["", f"{title}, {part['clock']} time, milliseconds a pair (median over the rounds)", ""]
    lines += [f"| what | {' | '.join(PARTS)} | step | tokens |", "| --- |" + " ---: |" * (len(PARTS) + 2)]
    for name, row in rows.items():
        cells = [f"{1000 * spread(row['seconds'][part])['median'] / row['work']['pairs']:.2f}" for part in PARTS]
        step = 1000 * spread(_total(row, PARTS))["median"] / row["work"]["pairs"]
        lines.append(f"| {name} | {' | '.join(cells)} | {step:.2f} | {row['work']['tokens']} |")
    reference = rows[REFERENCE]
    for name, row in rows.items():
        if name != REFERENCE:
            tokens, places = (reference["work"][count] / row["work"][count] for count in ("tokens", "places"))
            encoder = ratio(_total(reference, ENCODER), _total(row, ENCODER))["median"]
            step = ratio(_total(reference, PARTS), _total(row, PARTS))["median"]
            lines += ["", f"{REFERENCE} / {name}: tokens {tokens:.2f}, with padding {places:.2f}; "]
            lines[-1] += f"time of the encoder {encoder:.2f}, of the step {step:.2f}."
    lines.append("")
    for name, row in rows.items():
        said = ", ".join(f"{of['name']} {100 * of['share']:.0f} % ({of['calls']})" for of in row["operators"])
        lines.append(f"- {name}, operators by their share (calls): {said}")
    return lines


def _total(row: dict[str, Any], parts: tuple[str, ...]) -> list[float]:
    """Seconds of these parts together in each round."""
    return [sum(of_round) for of_round in zip(*(row["seconds"][part] for part in parts))]
