"""The risk-coverage curves of each uncertainty that a system's predictions have, as plain data."""

from collections.abc import Sequence
from typing import Any

from vmhan.scoring.bootstrap import Interval
from vmhan.scoring.error_detection import COVERAGES, bootstrap_error_detection
from vmhan.scoring.systems import System


__all__ = ["error_detection"]


def error_detection(
    systems: Sequence[System], *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """A panel a system: lines are {uncertainty: [{coverage, risk, low, high}, ...]}, scores {uncertainty: {auroc,
    auroc_behind (how much that of the first one is higher) and aurc, each of value, low, high}}; the AUROCs are None
    where a seed has no error.

    All are means over the seeds, and a panel says how many they are. See `vmhan.scoring.error_detection`.
    """
    panels, notes = [], []
    for system in systems:
        found = bootstrap_error_detection(system.predictions, resamples=resamples, seed=seed, level=level)
        if not found:
            notes.append(f"left out: {system.name}, no probabilities in predictions.jsonl")
            continue
        lines = {
            name: [
                {"coverage": float(coverage), "risk": risk.value, "low": risk.low, "high": risk.high}
                for coverage, risk in zip(COVERAGES, measured.risks, strict=True)
            ]
            for name, measured in found.items()
        }
        scores = {
            name: {part: _plain(getattr(measured, part)) for part in ("auroc", "auroc_behind", "aurc")}
            for name, measured in found.items()
        }
        panels.append({"name": system.name, "seeds": len(system.predictions), "lines": lines, "scores": scores})
    return {"figure": "error detection", "title": "risk and coverage", "panels": panels, "notes": notes}


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval._asdict()
