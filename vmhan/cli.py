"""The command `vmhan`: one line of help a command, and each command's module imported only when it is asked for."""

import importlib
import sys
from collections.abc import Sequence

from datasets_scripts.commands import nearest, run_command


__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": ("vmhan.training.command", "train a model, or a baseline, and evaluate it"),
    "evaluate": ("vmhan.training.evaluate", "score a finished run, on its own data or on other data"),
    "search": ("vmhan.training.search", "search a grid of settings on the validation split"),
    "predict": ("vmhan.inference.command", "answer a file of questions with a trained model"),
    "prepare": ("datasets_scripts.prepare.command", "make a data set folder from raw posts"),
    "audit": ("datasets_scripts.audit.command", "measure what each field that is not text tells of the label"),
    "score": ("vmhan.scoring.score", "score saved predictions, and compare two systems"),
    "sweep": ("vmhan.evaluation.sweep.command", "train many rows and seeds by one command"),
    "report": ("vmhan.evaluation.report.command", "make a table of finished runs"),
    "figures": ("vmhan.evaluation.figures.command", "draw the paper's figures from finished runs"),
    "visual-share": ("vmhan.evaluation.visual_share", "evaluate a finished run with a part of its visual nodes"),
    "browse": ("vmhan.evaluation.browser.command", "write one HTML page about the errors of a run"),
    "serve": ("vmhan.inference.serve.command", "answer posts over HTTP with a trained model, on Ray Serve"),
    "export": ("vmhan.inference.onnx.command", "export a trained model to ONNX or torch.export"),
    "publish": ("model_cards.publishing", "publish a finished folder on the Hugging Face Hub"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, which is 2 for a mistake of the user's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"vmhan: there is no command {name!r}{nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    return run_command(f"vmhan {name}", lambda: importlib.import_module(COMMANDS[name][0]).main(rest))


def _help() -> str:
    lines = [f"  {name:13} {words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join(["usage: vmhan COMMAND ...", "", *lines, "", "vmhan COMMAND --help tells what it takes."])


if __name__ == "__main__":
    sys.exit(main())
