"""What a kill leaves: half checkpoints, and a run of a sweep that was cut short after each of its files."""

import json
import os
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from kills import Killed
from safetensors.torch import load_file, save_file

import run_mmre
from datasets_scripts.commands import run_command
from vmhan.evaluation.sweep.runs import DONE, do_run, needs_work
from vmhan.training import evaluate
from vmhan.training.checkpoints import TRAIN_DATA, checkpoint_fault, choose_checkpoint, newest_whole
from vmhan.training.loop.train_data import check_train_data, record_of


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of the checkpoints of that run alone, as a kill before the end leaves them."""
    for path in whole[0].glob("checkpoint-*"):
        shutil.copytree(path, tmp_path / "run" / path.name)
    return tmp_path / "run"


def cut(path: Path, size: float) -> None:
    """Keeps a share of the file, or all but some bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * size) if size >= 0 else int(size)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


NEEDED = ("model.safetensors", "config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
DAMAGES = {
    **{f"no {name}": (name, Path.unlink) for name in NEEDED},
    **{f"an empty {name}": (name, lambda path: path.write_bytes(b"")) for name in NEEDED},
    **{f"half of {name}": (name, lambda path: cut(path, 0.5)) for name in NEEDED},
    **{f"{name} without its last bytes": (name, lambda path: cut(path, -3)) for name in NEEDED},
    "weights of a header alone": ("model.safetensors", lambda path: cut(path, 0.02)),
    "a byte of the optimizer": ("optimizer.pt", flip),
    "a list for a state": ("trainer_state.json", lambda path: path.write_text("[]")),
    "a state of nothing": ("trainer_state.json", lambda path: path.write_text("{}")),
    "a folder for weights": ("model.safetensors", lambda path: (path.unlink(), (path / "a").mkdir(parents=True))),
    "half of what it says of its posts": (TRAIN_DATA, lambda path: cut(path, 0.5)),
    "a half scaler": ("scaler.pt", lambda path: path.write_bytes(b"PK")),
    "an index without shards": ("model.safetensors.index.json", lambda path: sharded(path, "")),
    "an index of a list": ("model.safetensors.index.json", lambda path: sharded(path, ["a"])),
    "a shard that is missing": ("model-2.safetensors", lambda path: sharded(path, path.name)),
    "an empty folder": ("model.safetensors", lambda path: [file.unlink() for file in path.parent.iterdir()]),
}


def sharded(path: Path, missing) -> None:
    (path.parent / "model.safetensors").rename(path.parent / "model-1.safetensors")
    names = {"a": "model-1.safetensors", "b": missing} if isinstance(missing, str) and missing else missing
    (path.parent / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_half_checkpoint_is_left_out_by_name_and_reason(folder, damage, caplog):
    name, spoil = DAMAGES[damage]
    last = folder / "checkpoint-6"
    assert checkpoint_fault(last) is None
    spoil(last / name)
    assert name in checkpoint_fault(last)
    with pytest.raises(ValueError, match=rf"(?s){last}.*{name}.*checkpoint-3"):
        choose_checkpoint(str(last), folder)
    assert choose_checkpoint(str(folder), folder.parent) == folder / "checkpoint-3"
    assert choose_checkpoint("true", folder) == folder / "checkpoint-3"
    assert f"{last}" in caplog.text and name in caplog.text
    assert not last.exists() and (folder / "unfinished-checkpoint-6").is_dir()


def test_where_no_checkpoint_is_whole_true_starts_anew_and_a_path_is_an_error(folder, caplog):
    for path in folder.iterdir():
        (path / "optimizer.pt").unlink()
    for asked in (folder, folder / "checkpoint-6"):
        with pytest.raises(ValueError, match=rf"{asked}: .*no optimizer.pt"):
            choose_checkpoint(str(asked), folder)
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        choose_checkpoint(str(folder / "nowhere"), folder)
    assert choose_checkpoint("true", folder) is None
    assert "checkpoint-3" in caplog.text and "checkpoint-6" in caplog.text and "training starts anew" in caplog.text
    assert choose_checkpoint("false", folder) is None and choose_checkpoint(None, folder) is None


def test_each_process_needs_its_random_state(folder):
    last = folder / "checkpoint-6"
    (last / "rng_state.pth").rename(last / "rng_state_0.pth")
    assert newest_whole(folder, 1) == last and newest_whole(folder, 2) == folder / "checkpoint-3"
    assert "no rng_state_1.pth" in checkpoint_fault(last, 2)
    shutil.copy(last / "rng_state_0.pth", last / "rng_state_2.pth")
    assert "no rng_state_1.pth" in checkpoint_fault(last, 1)
    shutil.copy(last / "rng_state_0.pth", last / "rng_state_1.pth")
    assert newest_whole(folder, 3) == last and newest_whole(folder, 1) == last
    cut(last / "rng_state_1.pth", 0.5)
    assert "rng_state_1.pth" in checkpoint_fault(last, 2)


def numbers_of(metrics: dict) -> dict:
    """What does not depend on how long things took, or on how often the training was begun."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.startswith("train_")
        and name[-6:] != "second"
        and not name.endswith("runtime")
        and name != "total_flos"
    }


@pytest.mark.parametrize("damage", [None, "an empty folder"])
def test_a_run_with_a_half_checkpoint_ends_like_one_that_nothing_interrupted(tiny_flags, whole, folder, damage):
    """Also with a rotation that keeps one checkpoint, which the half one must not push out."""
    if damage is not None:
        name, spoil = DAMAGES[damage]
        spoil(folder / "checkpoint-6" / name)
    command = [*tiny_flags, "--output_dir", str(folder), "--resume_from_checkpoint", "true", "--save_total_limit", "1"]
    resumed = run_mmre.main(command)
    assert numbers_of(resumed) == pytest.approx(numbers_of(whole[1]), abs=1e-6)
    (kept,) = folder.glob("checkpoint-*")
    assert checkpoint_fault(kept) is None and (folder / "unfinished-checkpoint-6").exists() is (damage is not None)


@pytest.mark.parametrize("writes", [0, 1, 4])
def test_a_kill_within_a_checkpoint_leaves_no_half_one(tiny_flags, whole, tmp_path, monkeypatch, writes):
    """Killed in the middle of the second checkpoint's files: the weights, and the first and last of the others."""
    save, count = torch.save, []

    def half(value, file, *args, **kwargs):
        save(value, file, *args, **kwargs)
        if "checkpoint-6" in str(file):
            count.append(file)
            if len(count) == writes:
                cut(Path(file), 0.5)
                raise Killed

    def half_weights(*args, **kwargs):
        Path(args[1]).mkdir(parents=True)
        Path(args[1], "model.safetensors").write_bytes(b"\0" * 100)
        raise Killed

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", half)
        if not writes:
            patch.setattr(
                "vmhan.training.loop.trainer.Trainer._save", lambda *a: "checkpoint-6" in a[1] and half_weights(*a)
            )
            shutil.copytree(whole[0] / "checkpoint-3", folder / "checkpoint-3")
        flag = ["--resume_from_checkpoint", "true"] if not writes else []
        run_mmre.main([*tiny_flags, "--output_dir", str(folder), *flag])
    assert [path.name for path in folder.glob("*checkpoint-*")] == ["checkpoint-3"]
    assert (folder / ".unfinished" / "checkpoint-6").is_dir()
    resumed = run_mmre.main([*tiny_flags, "--output_dir", str(folder), "--resume_from_checkpoint", "true"])
    assert numbers_of(resumed) == pytest.approx(numbers_of(whole[1]), abs=1e-6)
    assert not (folder / ".unfinished").exists()


def test_a_training_goes_on_with_the_posts_that_the_checkpoint_has_learned_from(tiny_flags, folder):
    last = folder / "checkpoint-6"
    count = json.loads((last / TRAIN_DATA).read_text())["posts"]
    command = [*tiny_flags, "--output_dir", str(folder), "--resume_from_checkpoint", "true", "--max_samples", "3"]
    with pytest.raises(ValueError, match=rf"the {count} training posts that {last}.*received 3.*--overwrite true"):
        run_mmre.main(command)
    check_train_data(last, None)
    (last / TRAIN_DATA).unlink()
    check_train_data(last, {"posts": 3, "sha256": ""})


def test_a_digest_is_of_the_posts_and_not_of_how_they_are_stored():
    rows = [{"id": f"p{i}", "tokens": ["a", "b"][: i % 3], "pairs": [{"relation": i}] * (i % 2)} for i in range(2500)]
    posts = datasets.Dataset.from_list(rows)
    chunks = [posts.select(range(10)), posts.select(range(10, 2500))]
    same = [datasets.concatenate_datasets(chunks), posts.select(range(2500)[::-1]).select(range(2500)[::-1])]
    assert [record_of(rows) for rows in same] == [record_of(posts)] * 2
    assert record_of(posts.to_iterable_dataset()) is None
    changes = [{"id": "q"}, {"tokens": ["a", "c"]}, {"pairs": [{"relation": 0}]}, {"pairs": []}]
    others = [datasets.Dataset.from_list([*rows[:-1], rows[-1] | change]) for change in changes]
    others += [posts.select(range(2499)), posts.select([1, 0, *range(2, 2500)])]
    assert len({record_of(other)["sha256"] for other in [posts, *others]}) == 7


def best_is(folder: Path, step: int, **state) -> None:
    """Makes checkpoint-6 say that the best one was another."""
    path = folder / "checkpoint-6" / "trainer_state.json"
    content = json.loads(path.read_text()) | {"best_global_step": step, "best_metric": 0.75}
    content |= {"best_model_checkpoint": f"/gone/checkpoint-{step}", **state}
    path.write_text(json.dumps(content))


def test_the_best_checkpoint_is_found_beside_the_resumed_one_or_said_to_be_lost(tiny_flags, folder, capsys):
    best_is(folder, 3)
    weights = load_file(folder / "checkpoint-3" / "model.safetensors")
    marked = {name: value + 1 if name == "classifier.bias" else value for name, value in weights.items()}
    save_file(marked, folder / "checkpoint-3" / "model.safetensors", metadata={"format": "pt"})
    command = [*tiny_flags, "--output_dir", str(folder), "--resume_from_checkpoint", str(folder / "checkpoint-6")]
    run_mmre.main(command)
    bias = load_file(folder / "model.safetensors")["classifier.bias"]
    assert torch.equal(bias, marked["classifier.bias"])
    cut(folder / "checkpoint-3" / "model.safetensors", 0.5)
    run_mmre.main(command)
    said = capsys.readouterr().err
    assert "checkpoint-3 with f1 0.7500" in said and "a model.safetensors" in said
    last = load_file(folder / "checkpoint-6" / "model.safetensors")["classifier.bias"]
    assert torch.equal(load_file(folder / "model.safetensors")["classifier.bias"], last)


def test_early_stopping_counts_on_after_a_resume(tiny_flags, tmp_path):
    """Resumed before and after it had stopped, with epochs left: the same end as without a stop."""
    tiny_flags = [*tiny_flags, "--num_train_epochs", "5", "--learning_rate", "1e-9", "--head_learning_rate", "1e-9"]
    tiny_flags += ["--early_stopping_patience", "1", "--output_dir", str(tmp_path / "run")]
    metrics = run_mmre.main(tiny_flags)
    assert metrics["epoch"] == 2
    for stop in (6, 3):
        if stop == 3:
            shutil.rmtree(tmp_path / "run" / "checkpoint-6")
        resumed = run_mmre.main([*tiny_flags, "--resume_from_checkpoint", "true"])
        assert numbers_of(resumed) == pytest.approx(numbers_of(metrics), abs=1e-6), stop


def test_a_half_final_model_is_said_to_be_unfinished(tiny_flags, whole, folder, capsys, monkeypatch):
    """Killed between the weights and config.json, which comes last: predict, evaluate and a second try."""
    move = os.replace

    def killed(source, target):
        if Path(target) == folder / "config.json":
            raise Killed
        move(source, target)

    command = [*tiny_flags, "--output_dir", str(folder), "--resume_from_checkpoint", "true"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed)
        run_mmre.main(command)
    assert (folder / "model.safetensors").exists() and not (folder / "config.json").exists()
    for code in (lambda: evaluate.main([str(folder)]), lambda: predict_with(folder)):
        assert run_command("vmhan", code) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert str(folder) in error and "config.json" in error or "metrics.json" in error and "finished" in error
    assert numbers_of(run_mmre.main(command)) == pytest.approx(numbers_of(whole[1]), abs=1e-6)


def predict_with(folder: Path):
    from vmhan.inference import command

    (folder.parent / "q.jsonl").write_text('{"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}\n')
    return command.main([str(folder), str(folder.parent / "q.jsonl"), "--output", str(folder.parent / "a.jsonl")])


# Files of a run after which a kill leaves another state; those of the tokenizer, for instance, are like these.
STEPS = ("settings.json", "checkpoint-3", "config.json", "model.safetensors", "metrics.json", "run.json")


def snapshots(folder: Path, place: Path, monkeypatch, do) -> list[Path]:
    """The folder as it was after each file of `STEPS` that got its name or went away while `do` ran."""
    taken: list[Path] = []

    def after(function):
        def called(*args, **kwargs):
            value = function(*args, **kwargs)
            if Path(args[-1]).name in STEPS:
                taken.append(place / f"{len(taken):03}")
                shutil.copytree(folder, taken[-1])
            return value

        return called

    with monkeypatch.context() as patch:
        for owner, name in ((os, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, after(getattr(owner, name)))
        do()
    return taken


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_killed_after_any_of_a_runs_files_goes_on_to_the_same_run(sweep_run, tmp_path, monkeypatch):
    run = sweep_run("results")
    taken = snapshots(run.folder, tmp_path / "taken", monkeypatch, lambda: do_run(run, keep_weights=False))
    expected, seen = contents(run.folder), []
    metrics = json.loads((run.folder / "metrics.json").read_text())
    predictions = (run.folder / "predictions.jsonl").read_bytes()
    assert "run.json" in expected and "model.safetensors" not in expected
    for snapshot in taken:
        if contents(snapshot) in seen:
            continue
        seen.append(contents(snapshot))
        shutil.rmtree(run.folder)
        shutil.copytree(snapshot, run.folder)
        finished = (run.folder / "run.json").exists()
        assert finished or needs_work(run)
        assert do_run(run, keep_weights=False) == DONE and not needs_work(run), snapshot
        left = {name for name in contents(run.folder) if not Path(name).name.startswith(".")}
        assert left == {name for name in expected if not Path(name).name.startswith(".")}, snapshot
        again = json.loads((run.folder / "metrics.json").read_text())
        assert numbers_of(again) == pytest.approx(numbers_of(metrics), abs=1e-6), snapshot
        assert (run.folder / "predictions.jsonl").read_bytes() == predictions, snapshot
    assert len(seen) >= 6
