"""On what a run ran: environment.json, so that a number can be traced to code, versions and machine."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


__all__ = ["describe_environment"]

PACKAGES = ("torch", "torchvision", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")
ROOT = Path(__file__).resolve().parents[2]


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
