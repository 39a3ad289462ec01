"""A folder that one process writes to is no other's: each command says so in one line, before it does anything."""

import time

import pytest
import yaml
from other_processes import in_child, wait_until

from model_cards.locks import lock_beside, lock_inside, locked
from vmhan import cli
from vmhan.training import command, evaluate, search


@pytest.fixture
def held():
    """`held(file)`: another process has this lock; its id."""
    children = {}

    def hold(file):
        def holding():
            with locked(file, "it"):
                time.sleep(120)

        children[file] = in_child(holding)
        wait_until(lambda: file.exists() and file.read_text())
        return children[file].pid

    yield hold
    for file, child in children.items():
        child.kill()
        child.join()
        file.unlink()


def commands(workplace, finished, tmp_path):
    """Arguments, and the lock of what they write."""
    config, out, run = str(workplace / "tiny.yaml"), tmp_path / "out", str(finished[0])
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"learning_rate": [0.001, 0.002]}))
    return {
        "train": ([config, "--output_dir", out], lock_inside(out)),
        "evaluate": ([run, "--output_dir", out], lock_inside(out)),
        "search": ([config, "--output_dir", out, "--space", tmp_path / "space.yaml"], lock_inside(out)),
        "visual-share": ([run], lock_inside(finished[0])),
        "export": ([run, "--output_dir", out, "--format", "torch_export"], lock_beside(out)),
    }


@pytest.mark.parametrize("name", ["train", "evaluate", "search", "visual-share", "export"])
def test_a_second_process_ends_at_once(workplace, finished, tmp_path, held, monkeypatch, capsys, name):
    for module in (command, evaluate, search):
        monkeypatch.delattr(module, "load_posts")  # nothing is read to say so
    arguments, lock = commands(workplace, finished, tmp_path)[name]
    before = sorted(finished[0].rglob("*"))
    process = held(lock)
    assert cli.main([name, *map(str, arguments)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"vmhan {name}: ")]
    assert len(said) == 1 and f"process {process} on " in said[0] and str(lock.parent)[:20] in said[0]
    assert sorted(set(finished[0].rglob("*")) - {lock}) == before
    assert {path.name for path in tmp_path.rglob("*")} <= {"out", lock.name, "space.yaml"}


def test_a_finished_folder_has_no_lock_and_a_refused_one_is_not_made(workplace, finished, tmp_path):
    assert not list(finished[0].rglob("*.lock"))
    missing = [str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path / "a" / "b"), "--dataset", "jsonl"]
    assert cli.main(["train", *missing, "--data_dir", str(tmp_path / "none")]) == 2
    assert not list(tmp_path.iterdir())
