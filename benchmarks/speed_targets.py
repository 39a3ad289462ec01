"""What is asked of the speed (project issue "As fast as the encoder alone"), and whether a report reaches it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.competitors import ENCODERS
from benchmarks.timing import CLOCKS, ratio


__all__ = ["TARGETS", "Target", "judge"]

REAL = tuple(name for name in ENCODERS if name != "tiny")
BASE = ("bert-base-random",)

Spread = dict[str, float]
Measured = dict[str, Spread] | None  # by clock, or under "memory"; None: not measured


@dataclass(frozen=True)
class Target:
    """A ratio and its bound.

    Attributes:
        what: the ratio in words. rule: "<=" or ">=". encoders: with which it is asked for.
        measure: the report -> its median and quartiles over the rounds, by clock.
    """

    what: str
    rule: str
    bound: float
    encoders: tuple[str, ...]
    measure: Callable[[dict[str, Any]], Measured]


def seconds_of(report: dict[str, Any], table: str, *names: str) -> dict[str, list[list[float]]] | None:
    """By clock, the seconds of these rows in each round; None if the report lacks one."""
    rows = report["tables"].get(table, {"rows": {}})["rows"]
    if not set(names) <= rows.keys():
        return None
    return {clock: [rows[name]["seconds"][clock] for name in names] for clock in CLOCKS}


def time_ratio(report: dict[str, Any], table: str, of: str, to: str) -> Measured:
    seconds = seconds_of(report, table, of, to)
    return seconds and {clock: ratio(*pair) for clock, pair in seconds.items()}


def speed_ratio(report: dict[str, Any], table: str, of: str, to: str) -> Measured:
    """Of pairs per second; both answer the same pairs."""
    return time_ratio(report, table, to, of)


def share_of_token_ratio(report: dict[str, Any], table: str, batches: str = "") -> Measured:
    """(pairs per second of packed / marker) / (tokens that marker encodes / tokens that packed encodes).

    Args:
        batches: "_buckets" for those of like length.
    """
    marker, packed = f"marker{batches}", f"packed{batches}"
    faster = speed_ratio(report, table, packed, marker)
    if faster is None:
        return None
    work = {name: report["tables"][table]["rows"][name]["work"] for name in (marker, packed)}
    limit = work[marker]["tokens"] / work[packed]["tokens"]
    return {clock: {name: value / limit for name, value in row.items()} for clock, row in faster.items()}


def head_ratio(report: dict[str, Any], name: str) -> Measured:
    ratios = report.get("head", {"ratios": {}})["ratios"]
    return {clock: row[name] for clock, row in ratios.items() if name in row} or None


def memory_ratio(report: dict[str, Any], run: str) -> Measured:
    if "memory" not in report:
        return None
    rows = report["memory"]["rows"]
    return {"memory": ratio(rows[run]["peak_resident_mib"], rows["bare"]["peak_resident_mib"])}


def growth_ratio(report: dict[str, Any]) -> Measured:
    """Peak anonymous memory over the most rows / over the fewest."""
    peaks = [row["peak_anonymous_mib"] for row in report.get("growth", {"rows": {}})["rows"].values()]
    return {"memory": ratio(peaks[-1], peaks[0])} if len(peaks) > 1 else None


MARKER = partial(time_ratio, table="step/train", of="marker", to="bare_dynamic")
TARGETS = (
    Target("training step: marker / bare encoder + linear, same batches", "<=", 1.10, BASE, MARKER),
    Target("training step: marker / bare encoder + linear, same batches", "<=", 1.25, ("offline",), MARKER),
    *(
        Target(
            f"pairs per second, {where}: packed / marker, as a share of the ratio of tokens encoded",
            ">=", 0.9, REAL, partial(share_of_token_ratio, table=table, batches=batches),
        )
        for where, table, batches in (
            ("the data's sentences", "step/train", ""),
            ("the same in batches of like length", "step/train", "_buckets"),
            ("sentences with 5 pairs", "pairs/train/5", ""),
            ("sentences with 20 pairs", "pairs/train/20", ""),
        )
    ),
    Target(
        "pairs per second in training: packed_buckets / bare_padded, float32",
        ">=", 5, BASE, partial(speed_ratio, table="step/train", of="packed_buckets", to="bare_padded"),
    ),
    Target(
        "pairs per second in training: packed_buckets with bf16 / bare_padded in float32",
        ">=", 8, BASE, partial(speed_ratio, table="step/train", of="packed_buckets, bf16", to="bare_padded"),
    ),
    Target("V-HAN layer / its matrix products", "<=", 1.5, REAL, partial(head_ratio, name="vhan / products_of_vhan")),
    Target("whole head / its matrix products", "<=", 1.5, REAL, partial(head_ratio, name="head / products_of_head")),
    Target(
        "HypergraphConv with attention / V-HAN layer, time",
        ">=", 1, REAL, partial(head_ratio, name="hypergraph_conv_attention / vhan"),
    ),
    Target("peak memory of training: marker / bare encoder", "<=", 1.15, REAL, partial(memory_ratio, run="marker")),
    Target("peak memory of training: packed / bare encoder", "<=", 1.15, REAL, partial(memory_ratio, run="packed")),
    # "flat": 5 % is this file's reading of it
    Target("peak memory of an epoch: most rows / fewest rows", "<=", 1.05, REAL, growth_ratio),
    Target(
        "pairs per second in training: VM-HAN packed / hvpnet",
        ">=", 10, REAL, partial(speed_ratio, table="baselines/train", of="vmhan", to="hvpnet"),
    ),
)  # fmt: skip


def judge(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each target its words, bound, what was measured, and the verdict on the median, by the report's clock."""
    facts, rows = report["facts"], []
    for target in TARGETS:
        if facts["encoder"] not in target.encoders:
            continue
        measured = target.measure(report)
        verdict = "not measured"
        if measured is not None:
            median = measured.get(facts["clock"], measured.get("memory"))["median"]
            reached = median <= target.bound if target.rule == "<=" else median >= target.bound
            verdict = "reached" if reached else "missed"
        row = {"what": target.what, "rule": target.rule, "bound": target.bound, "measured": measured}
        rows.append({**row, "verdict": verdict})
    return rows
