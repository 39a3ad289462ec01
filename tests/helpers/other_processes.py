"""Processes that tests fork, which spares them the imports; what they leave behind when they are killed."""

import multiprocessing
import os
import signal
import subprocess
import time

import psutil


def in_child(act, *arguments):
    """Start `act` in a forked process."""
    child = multiprocessing.get_context("fork").Process(target=act, args=arguments)
    child.start()
    return child


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(is_true, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_family(child, seconds=3):
    """Kill the process with -9; how many descendants it had, and those that are alive `seconds` later."""
    os.kill(child.pid, signal.SIGSTOP)  # so that none is started between the look and the kill
    family = psutil.Process(child.pid).children(recursive=True)
    os.kill(child.pid, signal.SIGKILL)
    child.wait() if isinstance(child, subprocess.Popen) else child.join()
    _, alive = psutil.wait_procs(family, timeout=seconds)
    for process in alive:
        process.kill()
    return len(family), alive
