"""The command reference is generated: `<!-- help: NAME -->` on a page becomes what `vmhan NAME --help` prints."""

import contextlib
import io
import os
import re

from vmhan.cli import main


__all__ = ["on_page_markdown"]


def on_page_markdown(markdown: str, **_) -> str:
    """mkdocs calls this with each page's source."""
    return re.sub(r"<!-- help: (\S+) -->", lambda found: f"```text\n{_help(found[1])}```", markdown)


def _help(command: str) -> str:
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main(["--help"] if command == "vmhan" else [command, "--help"])
    return printed.getvalue()
