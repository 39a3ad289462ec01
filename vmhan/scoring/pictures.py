"""The one file that imports matplotlib: a figure that is written whole when it is done, and a confusion matrix."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from datasets_scripts.figure_fonts import figure_fonts
from model_cards.files import whole_file


__all__ = ["BLUE", "GREY", "ORANGE", "draw_confusion", "picture"]

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.55"  # Okabe and Ito: they stay apart for colour-blind eyes
CELL_INCHES = 0.42  # of a confusion matrix
STYLE = {"font.size": 9, "axes.titlesize": 9, "figure.titlesize": 10}
STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "vmhan"}  # text stays text, and bytes repeat


@contextlib.contextmanager
def picture(*paths: str | Path, width: float, height: float, dpi: int = 130) -> Iterator[Any]:
    """Yield a matplotlib figure of this size in inches; when the block ends, write it to each path (.png or .svg).

    It needs no display, and the same drawing gives the same bytes. ImportError if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'vmhan[report]'") from error
    with matplotlib.rc_context(STYLE), figure_fonts():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        for path in map(Path, paths):
            with whole_file(path) as temporary:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                figure.savefig(temporary, dpi=dpi, metadata=metadata)


def draw_confusion(path: str | Path, counts: np.ndarray, labels: Sequence[str], *, title: str) -> None:
    """Draw a PNG of the counts as numbers over the share of their row as colour; an empty cell is 0.

    counts are (R, R), row = gold, column = predicted, labels R names. ImportError if matplotlib is not installed.
    """
    counts = np.asarray(counts)
    support = counts.sum(axis=1, keepdims=True)  # (R, 1)
    side, labels = CELL_INCHES * len(labels), [label.replace("$", r"\$") for label in labels]  # no mathematics
    with picture(path, width=side + 4.2, height=side + 3.2) as figure:
        axes = figure.subplots()
        display = ConfusionMatrixDisplay(counts / np.maximum(support, 1), display_labels=labels)
        display.plot(ax=axes, cmap="Blues", xticks_rotation="vertical", im_kw={"vmin": 0, "vmax": 1}, colorbar=False)
        for text, count in zip(display.text_.flat, counts.flat, strict=True):
            text.set_text(count or "")
        axes.set_yticklabels([f"{name} ({n})" for name, n in zip(labels, support[:, 0], strict=True)])
        axes.set(xlabel="predicted (no number: no pair)", ylabel="gold (pairs)", title=title.replace("$", r"\$"))
        figure.colorbar(display.im_, ax=axes, label="share of the gold relation's pairs", shrink=0.6)
