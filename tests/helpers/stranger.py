"""Code run where torch, torchvision, transformers and Pillow are installed, and no package of ours.

One process imports them once and forks for each piece of code, so that every piece finds a fresh interpreter.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

from packaging.requirements import Requirement


PACKAGES = ["torch", "torchvision", "transformers", "pillow"]  # all that a saved folder's code needs
SERVER = """
import json, os, sys, traceback
import PIL.Image, torch, torchvision, transformers

for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        with open(task["output"], "w") as output:
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
            sys.argv = ["-c", *task["arguments"]]
            try:
                exec(compile(task["code"], "stranger", "exec"), {"__name__": "__main__"})
                code = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Stranger:
    """`run(code, *arguments)` gives what the code printed; its failure is an AssertionError with that output."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "site").mkdir()
        own = {"PYTHONPATH": str(link_distributions(folder / "site", PACKAGES)), "HF_HOME": str(folder / "home")}
        own |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        command = [sys.executable, "-S", "-c", SERVER]  # -S: without this environment's packages
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, env={**kept, **own}, **pipes)

    def run(self, code, *arguments):
        output = self.folder / "output.txt"
        task = {"code": code, "arguments": [str(argument) for argument in arguments], "output": str(output)}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer == "0", output.read_text()[-4000:]
        return output.read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def _with_what_they_need(names):
    """Names of these distributions and of all that they require, without extras."""
    needed, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in needed:
            needed.add(name)
            wanted = [Requirement(line) for line in importlib.metadata.distribution(name).requires or []]
            waiting += [w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})]
    return needed


def link_distributions(site, names):
    """Make the empty folder `site` a site-packages of these installed distributions and what they need; returns it."""
    for name in _with_what_they_need(names):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return site
