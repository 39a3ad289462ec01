"""The one file that draws a confusion matrix: what each gold relation was predicted as."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


__all__ = ["draw_confusion"]

CELL_INCHES = 0.42
DARK = 0.55  # share from which a count is written in white


def draw_confusion(path: str | Path, counts: np.ndarray, labels: Sequence[str], *, title: str) -> None:
    """Draw counts as numbers over the share of their row as colour; an empty cell is 0, a grey row has no gold pair.

    Args:
        path: of the PNG, written atomically.
        counts: (R, R), row = gold, column = predicted.
        labels: R names.
        title: over the picture.

    Raises:
        ValueError: shapes that do not fit, or matplotlib is not installed.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(
            f"counts: expected one row and one column a label, ({len(labels)}, {len(labels)}), received "
            f"{counts.shape}. Pass what vmhan.scoring.scorer.confusion returns for these labels."
        )
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ValueError("the confusion matrix's picture needs matplotlib: pip install 'vmhan[report]'") from error
    side = CELL_INCHES * len(labels)
    figure = Figure(figsize=(side + 4.2, side + 3.2), layout="constrained")
    axes = figure.subplots()
    support = counts.sum(axis=1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(support == 0, counts.shape), counts / np.maximum(support, 1))
    axes.set_facecolor("0.9")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > DARK else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=9, color=colour)
    ticks = np.arange(len(labels))
    axes.set_xticks(ticks, labels, rotation=90, fontsize=9)
    axes.set_yticks(ticks, [f"{name} ({n})" for name, n in zip(labels, support[:, 0], strict=True)], fontsize=9)
    axes.set_xticks(ticks[1:] - 0.5, minor=True)
    axes.set_yticks(ticks[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted (no number: no pair)", labelpad=10)
    axes.set_ylabel("gold (pairs; grey: no such pair)", labelpad=10)
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, label="share of the gold relation's pairs", shrink=0.6)
    _save(figure, Path(path))


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, path)
