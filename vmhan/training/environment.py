"""On what a run ran: environment.json, so that a number can be traced to code, versions and machine; its memory."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch


__all__ = ["describe_environment", "peak_bytes", "peak_memory"]

PACKAGES = ("torch", "torchvision", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")
ROOT = Path(__file__).resolve().parents[2]


def peak_memory() -> str:
    """`peak_bytes`, and of a GPU the most that its tensors took, such as "1.2 GB"."""
    said = f"{peak_bytes() / 1e9:.1f} GB"
    if torch.cuda.is_available():
        said += f", of the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    return said


def peak_bytes() -> int:
    """The most that this process had in memory at once; where the system does not tell the peak, what it has now."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    peak = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return (peak or [psutil.Process().memory_info().rss])[0]


def describe_environment() -> dict[str, Any]:
    """`python`, `packages` (name: version), `platform`, `cpu_count`, `git_revision` of this code and `git_dirty`.

    The last two are None where the code is not in a git checkout of its own.
    """
    packages, revision, is_dirty = {}, None, None
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    with suppress(OSError, subprocess.SubprocessError):
        if (ROOT / ".git").exists():
            command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
            revision, is_dirty = done.stdout.strip().removesuffix("-dirty"), done.stdout.strip().endswith("-dirty")
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "git_revision": revision,
        "git_dirty": is_dirty,
    }
