"""What a folder may hold before a training into it, and what --overwrite takes away."""

import pytest

from vmhan.training.arguments import RunArguments
from vmhan.training.output_folder import check_output_dir, clear_run


FINISHED = ("run.json", "config.json", "model.safetensors", "metrics.json", "checkpoint-3/trainer_state.json")
KILLED = ("checkpoint-3/trainer_state.json", ".unfinished/checkpoint-6/model.safetensors")
OTHERS = ("notes.txt", "settings.json", "log.txt", "search.json", "data/config.json")


def arguments(folder, **flags):
    return RunArguments(output_dir=str(folder), use_cpu=True, **flags)


@pytest.fixture
def fill(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / name).write_text("{}")
        return tmp_path / "out"

    return write


@pytest.mark.parametrize(
    ("names", "flags", "refusal"),
    [
        ((), {}, None),
        (OTHERS, {}, None),
        (FINISHED, {}, r"a finished one \(run.json\)"),
        (FINISHED[1:], {}, r"a finished one \(config.json\)"),
        (("model.safetensors",), {}, r"an unfinished one \(model.safetensors\).*--resume_from_checkpoint true"),
        (KILLED, {}, r"an unfinished one \(checkpoint-3\).*--resume_from_checkpoint true"),
        (FINISHED, {"resume_from_checkpoint": "false"}, "a finished one"),
        (FINISHED, {"resume_from_checkpoint": "true"}, None),
        (KILLED, {"resume_from_checkpoint": "out/checkpoint-3"}, None),
        (FINISHED, {"overwrite": True}, None),
        (KILLED, {"overwrite": True}, None),
    ],
)
def test_a_folder_with_a_run_is_refused_but_for_overwrite_and_a_resume(fill, names, flags, refusal):
    folder = fill(*names) if names else fill("x").parent / "new"
    if refusal is None:
        check_output_dir(arguments(folder, **flags))
    else:
        with pytest.raises(ValueError, match=f"--output_dir {folder}: .*{refusal}.*--overwrite true"):
            check_output_dir(arguments(folder, **flags))


def test_overwriting_removes_the_run_and_nothing_else(fill):
    folder = fill(*FINISHED, *KILLED, *OTHERS)
    clear_run(arguments(folder))
    assert (folder / "run.json").exists()
    clear_run(arguments(folder, overwrite=True))
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == set(OTHERS)


def test_overwriting_and_going_on_are_not_asked_for_together(tmp_path):
    with pytest.raises(ValueError, match="--overwrite: received True.*--resume_from_checkpoint"):
        arguments(tmp_path, overwrite=True, resume_from_checkpoint="true")
