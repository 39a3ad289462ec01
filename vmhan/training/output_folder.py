"""A run never replaces another one without a word: what --output_dir may hold before a training."""

import shutil
from pathlib import Path

from transformers.utils import CONFIG_NAME

from model_cards.run_metadata import RUN_FILE
from vmhan.training.arguments import RunArguments
from vmhan.training.checkpoints import ASIDE, SET_ASIDE


__all__ = ["check_output_dir", "clear_run"]

FINISHED = (RUN_FILE, CONFIG_NAME, "metrics.json", "predictions.jsonl", "model*.safetensors*")
UNFINISHED = ("checkpoint-*", f"{SET_ASIDE}checkpoint-*", ASIDE)


def check_output_dir(run_args: RunArguments) -> None:
    """ValueError if --output_dir holds a run, finished or not, but with --overwrite or --resume_from_checkpoint."""
    folder = Path(run_args.output_dir)
    held = _held(folder)
    if not held or run_args.overwrite or run_args.resumes:
        return
    is_finished = (folder / CONFIG_NAME).exists()
    fix = "" if is_finished else "Pass --resume_from_checkpoint true to go on with it. "
    raise ValueError(
        f"--output_dir {folder}: expected a folder without a run, received one that holds "
        f"{'a finished' if is_finished else 'an unfinished'} one ({held[0].name}). {fix}Pass --overwrite true to "
        "replace it, or name another folder."
    )


def clear_run(run_args: RunArguments) -> None:
    """Removes what an earlier run left in --output_dir, if --overwrite says so; other files stay."""
    for path in _held(Path(run_args.output_dir)) if run_args.overwrite else []:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _held(folder: Path) -> list[Path]:
    """The files and folders of a run that are there; run.json, which says that all the others are whole, is first."""
    return [path for pattern in (*FINISHED, *UNFINISHED) for path in sorted(folder.glob(pattern))]
