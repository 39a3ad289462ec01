"""The commands of benchmarks/: each says what it does, and what pages, sweeps and files name of them is there."""

import contextlib
import functools
import importlib
import io
import re

import pytest
from paths import ROOT


FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
COMMANDS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in FILES
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [*sorted((ROOT / "docs").glob("*/README.md")), *sorted((ROOT / "configs").rglob("*.yaml")), *FILES]
OF_ANOTHER_COMMIT = re.compile(r"```text\n.*?```", flags=re.DOTALL)
NAMED = re.compile(r"python -m (benchmarks(?:\.[a-z_]+)+)([^`\n]*)")
PASSED_ON = {"benchmarks.inference.halves"}  # whose flags are those of training


def named(page):
    return NAMED.findall(OF_ANOTHER_COMMIT.sub("", page.read_text(encoding="utf-8")))


@functools.cache
def help_of(command):
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit, match="^0$"):
        importlib.import_module(command).main(["--help"])
    return printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_its_help_is_its_docstring(command):
    assert help_of(command).startswith(f"usage: python -m {command} ")
    assert importlib.import_module(command).__doc__.strip() in help_of(command)
    assert command in {name for name, _ in named(COMMANDS[command])}


@pytest.mark.parametrize("page", [page for page in PAGES if named(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_that_are_named_are_there(page):
    for command, words in named(page):
        assert command in COMMANDS
        for flag in () if command in PASSED_ON else re.findall(r"(?<!\S)--\w+", words):
            assert re.search(rf"{flag}\b", help_of(command)), (command, flag)
