"""The output of a long run over the rows of a file: killed at any time, it goes on where it was.

Of OUT.jsonl (or another suffix) there are

    OUT.jsonl.part        what the rows gave, one line of JSON each, only ever appended to;
    OUT.errors.jsonl      rows that failed, likewise; it stays, and is not there without any;
    OUT.jsonl.state.json  how far both are, and the fingerprint of the run; replaced atomically after each batch;
    OUT.jsonl             made from the part file at the end, under another name, and renamed.

What a killed run wrote behind the recorded lengths is cut off. So a row is never there twice and never missing.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


__all__ = ["Progress", "ResumableOutput"]


@dataclass(frozen=True)
class Progress:
    """Rows done, lines they gave, rows failed, length of the part file and of the errors in bytes."""

    rows: int = 0
    lines: int = 0
    failed: int = 0
    part_bytes: int = 0
    error_bytes: int = 0
    complete: bool = False


class ResumableOutput:
    """Where a run appends its results, batch by batch. One process at a time.

    Args:
        output: path of the result; its folder is made. also: other paths that `finish` will make.
        fingerprint: JSON-able; everything that the result depends on. A run goes on only under the same one.
        overwrite: throw away what there is and start anew.

    Raises:
        ValueError: there is a result, whole or in part, of another run; or what there is of this one is damaged.

    Example:
        output = ResumableOutput(Path("out.jsonl"), {"seed": 0})
        for batch in batches(rows[output.progress.rows :]):
            output.append(len(batch), [answer(row) for row in batch], [])
        output.finish({output.output: lambda part, target: shutil.copyfile(part, target)})
    """

    def __init__(
        self, output: Path, fingerprint: dict[str, Any], *, also: Sequence[Path] = (), overwrite: bool = False
    ):
        self.also = also
        self.output, self.fingerprint = output, json.loads(json.dumps(fingerprint))  # tuples are lists, as in the file
        self.part, self.errors, self.state = self.files_of(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove(self.state, self.part, self.errors, output, *also)
        self.progress = self._resume() if self.state.exists() else self._start()

    @staticmethod
    def files_of(output: Path) -> tuple[Path, Path, Path]:
        """The part file, the errors and the state of an output."""
        named = [output.with_name(output.name + suffix) for suffix in (".part", ".state.json")]
        return named[0], output.with_suffix(".errors.jsonl"), named[1]

    def append(self, rows: int, lines: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> None:
        """Record that `rows` more rows are done, with what they gave and what failed: all of it or nothing."""
        done = self.progress
        progress = Progress(
            rows=done.rows + rows,
            lines=done.lines + len(lines),
            failed=done.failed + len(errors),
            part_bytes=done.part_bytes + _append(self.part, lines),
            error_bytes=done.error_bytes + _append(self.errors, errors),
        )
        self._save(progress)

    def finish(self, products: dict[Path, Callable[[Path, Path], None]]) -> None:
        """Make each product by its function, which reads the part file and writes a file, and drop the part file."""
        for path, make in products.items():
            temporary = path.with_name(f".{path.name}.tmp")
            make(self.part, temporary)
            os.replace(temporary, path)
        self._save(Progress(**{**asdict(self.progress), "complete": True}))
        _remove(self.part)

    def _start(self) -> Progress:
        if there := [str(path) for path in (self.output, self.part, self.errors, *self.also) if path.exists()]:
            raise ValueError(
                f"{', '.join(there)}: expected a new output, received one that another run made. Give another "
                "--output, or --overwrite."
            )
        self._save(Progress())
        return self._cut(self.progress)

    def _resume(self) -> Progress:
        try:
            recorded = json.loads(self.state.read_text(encoding="utf-8"))
            progress, fingerprint = Progress(**recorded["progress"]), recorded["fingerprint"]
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(
                f"{self.state}: expected the record of a run, received something else ({error}). Start anew with "
                "--overwrite."
            ) from error
        differing = [
            f"{name} ({json.dumps(fingerprint.get(name))} then, {json.dumps(self.fingerprint.get(name))} now)"
            for name in sorted({*fingerprint, *self.fingerprint})
            if fingerprint.get(name) != self.fingerprint.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.state}: expected to go on with the run that began {self.output}, received another one: "
                f"{'; '.join(differing)}. Run it as then, give another --output, or start anew with --overwrite."
            )
        if not progress.complete:
            return self._cut(progress)
        if not self.output.exists():
            raise ValueError(f"{self.output}: {self.state} says it is complete, but it is gone. Pass --overwrite.")
        _remove(self.part)
        return progress

    def _cut(self, progress: Progress) -> Progress:
        """Drop what was written behind the record."""
        for path, length in ((self.part, progress.part_bytes), (self.errors, progress.error_bytes)):
            found = path.stat().st_size if path.exists() else 0
            if found < length:
                raise ValueError(
                    f"{path}: expected the {length} bytes that {self.state} records, received {found}. Start anew "
                    "with --overwrite."
                )
            if path.exists():
                os.truncate(path, length)
        self.part.touch()
        if not progress.error_bytes:
            _remove(self.errors)
        return progress

    def _save(self, progress: Progress) -> None:
        content = {"progress": asdict(progress), "fingerprint": self.fingerprint}
        temporary = self.state.with_name(f".{self.state.name}.tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, self.state)
        self.progress = progress


def _append(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Append lines of JSON and have them on the disk; returns their length in bytes."""
    content = "".join(json.dumps(record) + "\n" for record in records).encode("ascii")
    if content:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return len(content)


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
