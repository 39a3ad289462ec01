"""Whatever kills a process, those that it started end within three seconds, whatever they are at."""

import contextlib
import functools
import multiprocessing
import os
import random
import subprocess
import sys
import time

import psutil
import pytest
import torch
from other_processes import in_child, kill_family, wait_until
from torch.utils.data import DataLoader

from model_cards.processes import end_forks_with_this_process, end_with_launcher, family, process_pool


def note(folder):
    (folder / str(os.getpid())).touch()


def sleep(_):
    time.sleep(60)


def compute(_):
    torch.set_num_threads(1)
    numbers = torch.rand(1500, 1500)
    while True:
        numbers = (numbers @ numbers).softmax(-1)


def wait(_):
    """Be done at once, and wait for more to do."""


def work(folder, method, start, task):
    with process_pool(2, start, method=method) as pool:
        for _ in pool.map(task, range(2)):
            pass
        time.sleep(60)


@pytest.mark.parametrize("task", [sleep, compute, wait])
def test_workers_that_are_at_work(tmp_path, task):
    child = in_child(work, tmp_path, "fork", functools.partial(note, tmp_path), task)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    time.sleep(0.2)
    assert kill_family(child) == (2, [])


def test_workers_that_are_just_started(tmp_path):
    """Spawned ones import what `start` needs; here it takes a minute."""
    for seed in range(2):
        child = in_child(work, tmp_path, "spawn", functools.partial(time.sleep, 60), time.sleep)
        time.sleep(random.Random(seed).uniform(0, 1.5))
        assert not kill_family(child)[1]


class Slow(torch.utils.data.Dataset):
    def __init__(self, folder, task):
        self.folder, self.task = folder, task

    def __len__(self):
        return 100

    def __getitem__(self, index):
        note(self.folder)
        self.task(index)


@pytest.mark.parametrize("task", [sleep, compute])
def test_workers_of_a_data_loader(tmp_path, task):
    def load():
        end_forks_with_this_process()
        end_forks_with_this_process()  # each trainer asks for it
        next(iter(DataLoader(Slow(tmp_path, task), num_workers=3)))

    child = in_child(load)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
    assert kill_family(child) == (3, [])


def test_a_launched_process_ends_with_its_launcher(tmp_path, monkeypatch):
    def launched():
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: None)  # as for one that was executed
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        end_with_launcher()
        note(tmp_path)
        time.sleep(60)

    def launch():
        in_child(launched).join()

    child = in_child(launch)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 1)
    assert kill_family(child) == (1, [])


SERVICE = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "


@pytest.mark.parametrize("is_killed", [True, False])
def test_services_of_a_library_end_though_they_left_their_parents(tmp_path, is_killed):
    """As those of Ray, which wait for each other for a minute: a session of its own, and an orphan in it."""

    def serve():
        with family():
            for end in ("", "time.sleep(60)"):
                subprocess.Popen([sys.executable, "-c", SERVICE + end], start_new_session=True)
            wait_until(lambda: len(psutil.Process().children(recursive=True)) >= 4)
            time.sleep(0.3)
            pids = [process.pid for process in psutil.process_iter() if has_mark(process)]
            (tmp_path / "pids").write_text(" ".join(map(str, pids)))
            time.sleep(60 if is_killed else 0)

    child = in_child(serve)
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    child.kill() if is_killed else None
    child.join()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=3)
    assert len(pids) == 3 and not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def has_mark(process):
    with contextlib.suppress(psutil.Error):
        return any(name in os.environ for name in process.environ() if name.startswith("VMHAN_FAMILY_"))
    return False
