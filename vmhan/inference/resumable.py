"""The output of a long run over the rows of a file: killed at any time, it goes on where it was.

Until the end OUT.jsonl.part has the run's fingerprint and a line for each batch of rows with all that it gave. Lines
are only appended, and one that a kill has cut short is dropped. From it OUT.jsonl and OUT.errors.jsonl (if rows
failed) are made, and OUT.jsonl.state.json says that they are complete.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model_cards.files import whole_file, write_json


__all__ = ["Make", "ResumableOutput"]

Make = Callable[[Iterator[dict[str, Any]], Path], None]
OVERWRITE = "Give another --output, or start anew with --overwrite."


class ResumableOutput:
    """Where a run appends its results, batch by batch. One process at a time.

    `fingerprint` is everything that the result depends on, as JSON; `also` are other paths that `finish` will make.
    Its `rows`, `pairs` and `failed` count rows done, lines that they gave, and rows that failed; `complete` says that
    nothing is left to do. ValueError for a result of another run (unless `overwrite`), or a damaged one of this run.
    """

    def __init__(self, output: Path, fingerprint: dict[str, Any], *, also: Sequence[Path] = (), overwrite=False):
        self.output, self.fingerprint = output, json.loads(json.dumps(fingerprint))  # tuples are lists, as in the file
        self.part, self.errors, self.state = self.files_of(output)
        self.rows = self.pairs = self.failed = 0
        output.parent.mkdir(parents=True, exist_ok=True)
        made = (self.state, self.part, self.errors, output, *also)
        if overwrite:
            for path in made:
                path.unlink(missing_ok=True)
        self.complete = self.state.exists()
        if self.complete or self.part.exists():
            try:
                self._read_state() if self.complete else self._resume()
            except (TypeError, LookupError, json.JSONDecodeError) as error:
                damaged = self.state if self.complete else self.part
                raise ValueError(
                    f"{damaged}: expected the record of a run, received another file. {OVERWRITE}"
                ) from error
        elif there := [str(path) for path in made if path.exists()]:
            raise ValueError(f"{', '.join(there)}: expected a new output, received one of another run. {OVERWRITE}")
        if not self.part.exists() and not self.complete:
            self._write({"fingerprint": self.fingerprint})

    @staticmethod
    def files_of(output: Path) -> tuple[Path, Path, Path]:
        """Return the part file, the file of errors and the state file of an output."""
        part, state = (output.with_name(output.name + suffix) for suffix in (".part", ".state.json"))
        return part, output.with_suffix(".errors.jsonl"), state

    def append(self, rows: int, lines: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> None:
        """Record that `rows` more rows are done, with what they gave and what failed: all of it or nothing."""
        self._write({"rows": rows, "lines": lines, "errors": errors})
        self._count(rows, lines, errors)

    def finish(self, products: dict[Path, Make]) -> None:
        """Make each product by its function, which gets the lines of all rows and a path to write to."""
        for path, make in products.items():
            with whole_file(path) as temporary:
                make(self._recorded("lines"), temporary)
        if self.failed:
            with whole_file(self.errors) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(error, allow_nan=False) + "\n" for error in self._recorded("errors"))
        counts = {name: getattr(self, name) for name in ("rows", "pairs", "failed")}
        write_json(self.state, {**counts, "fingerprint": self.fingerprint})
        self.part.unlink(missing_ok=True)

    def _count(self, rows: int, lines: Sequence[Any], errors: Sequence[Any]) -> None:
        self.rows, self.pairs, self.failed = self.rows + rows, self.pairs + len(lines), self.failed + len(errors)

    def _recorded(self, name: str) -> Iterator[dict[str, Any]]:
        with self.part.open("rb") as batches:
            next(batches)  # the fingerprint
            for batch in batches:
                yield from json.loads(batch)[name]

    def _write(self, record: dict[str, Any]) -> None:
        """Append a line to the part file and have it on the disk."""
        with self.part.open("ab") as file:
            file.write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _read_state(self) -> None:
        state = json.loads(self.state.read_text(encoding="utf-8"))
        self.rows, self.pairs, self.failed = state["rows"], state["pairs"], state["failed"]
        self._check(state["fingerprint"])
        if not self.output.exists():
            raise ValueError(f"{self.output}: expected the output that {self.state} says is complete. {OVERWRITE}")
        self.part.unlink(missing_ok=True)

    def _resume(self) -> None:
        """Count what the part file holds, and drop a last line that was not written to its end."""
        whole = 0
        with self.part.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if whole:
                    self._count(**record)
                else:
                    self._check(record["fingerprint"])
                whole += len(line)
        if whole:
            os.truncate(self.part, whole)
        else:
            self.part.unlink()  # the run was killed before it had written its fingerprint

    def _check(self, then: dict[str, Any]) -> None:
        now, say = self.fingerprint, json.dumps
        names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
        if names:
            differing = "; ".join(f"{name} ({say(then.get(name))} then, {say(now.get(name))} now)" for name in names)
            raise ValueError(
                f"{self.output}: expected to go on with the run that began it, received another one: {differing}. Run "
                f"it as then, or: {OVERWRITE}"
            )
