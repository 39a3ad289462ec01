"""The output of a long run over the rows of a file: killed at any time, it goes on where it was.

Until the end OUT.jsonl.part has the run's fingerprint and a line for each batch of rows with all that it gave, and a
digest of all so far. Lines are only appended, and one that a kill has cut short is dropped. From it OUT.jsonl and
OUT.errors.jsonl (if rows failed) are made, and OUT.jsonl.state.json says that they are complete, and what they hold.
Neither the part file nor what was made of it is believed where something else has changed it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model_cards.files import remove_leftovers, sha256_of, whole_file, write_json
from model_cards.locks import lock_beside, locked
from vmhan.inference.answers import write_jsonl


__all__ = ["Make", "ResumableOutput"]

Make = Callable[[Iterator[dict[str, Any]], Path], None]
OVERWRITE = "Give another --output, or start anew with --overwrite."
DAMAGED = (TypeError, LookupError, json.JSONDecodeError, UnicodeDecodeError, RecursionError)  # of a file read as JSON


class ResumableOutput:
    """Where a run appends its results, batch by batch. One process at a time: it holds the locks of `only_here`.

    `fingerprint` is everything that the result depends on, as JSON; `also` are other paths that `finish` will make.
    Its `rows`, `pairs` and `failed` count rows done, lines that they gave, and rows that failed; `complete` says that
    nothing is left to do. ValueError for a result of another run (unless `overwrite`), or a damaged one of this run;
    and, from `append` and `finish`, where something else changes the part file meanwhile.
    """

    def __init__(self, output: Path, fingerprint: dict[str, Any], *, also: Sequence[Path] = (), overwrite=False):
        self.output, self.fingerprint = output, json.loads(json.dumps(fingerprint))  # tuples are lists, as in the file
        self.part, self.errors, self.state = self.files_of(output)
        self.rows = self.pairs = self.failed = 0
        self._size, self._digest = 0, ""  # of what the part file holds, as far as this process knows
        output.parent.mkdir(parents=True, exist_ok=True)
        made = (self.state, self.part, self.errors, output, *also)
        for path in made:
            remove_leftovers(path)
            if overwrite:
                path.unlink(missing_ok=True)
        self.complete = self.state.exists()
        if self.complete or self.part.exists():
            try:
                self._read_state() if self.complete else self._resume()
            except DAMAGED as error:
                damaged = self.state if self.complete else self.part
                raise ValueError(
                    f"{damaged}: expected the record of a run, received another file. {OVERWRITE}"
                ) from error
        elif there := [str(path) for path in made if path.exists()]:
            raise ValueError(f"{', '.join(there)}: expected a new output, received one of another run. {OVERWRITE}")
        if not self.complete:
            self._file = self.part.open("ab")  # kept, to know it again
            if not self._size:
                self._write({"fingerprint": self.fingerprint})

    @staticmethod
    @contextlib.contextmanager
    def only_here(output: Path, also: Sequence[Path] = ()) -> Iterator[None]:
        """No other process makes these files, or an output's file of errors, meanwhile; BusyError if one does."""
        _, errors, _ = ResumableOutput.files_of(output)
        with contextlib.ExitStack() as stack:
            for path in (output, errors, *also):
                stack.enter_context(locked(lock_beside(path), f"--output {output}"))
            yield

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
        files = {path.name: self._make(path, "lines", self.pairs, make) for path, make in products.items()}
        if self.failed:
            files[self.errors.name] = self._make(self.errors, "errors", self.failed, write_jsonl)
        self._check_part()
        counts = {name: getattr(self, name) for name in ("rows", "pairs", "failed")}
        write_json(self.state, {**counts, "sha256": files, "fingerprint": self.fingerprint})
        self._file.close()
        self.part.unlink(missing_ok=True)

    def _make(self, path: Path, name: str, expected: int, make: Make) -> str:
        """The SHA-256 of the file, made of the `expected` records of this name."""
        count = 0

        def counted() -> Iterator[dict[str, Any]]:
            nonlocal count
            for record in self._recorded(name):
                count += 1
                yield record

        with whole_file(path) as temporary:
            make(counted(), temporary)
            if count != expected:
                raise self._changed(f"it has {count} {name}, {expected} were written")
            return sha256_of(temporary)

    def _count(self, rows: int, lines: Sequence[Any], errors: Sequence[Any]) -> None:
        self.rows, self.pairs, self.failed = self.rows + rows, self.pairs + len(lines), self.failed + len(errors)

    def _recorded(self, name: str) -> Iterator[dict[str, Any]]:
        self._check_part()
        found = ""
        try:
            for record, digest, _ in self._batches():
                yield from record.get(name, ())  # the first one has the fingerprint
                found = digest
        except DAMAGED:
            found = "damaged"
        if found != self._digest:
            raise self._changed("its lines are not those that were written")

    def _batches(self) -> Iterator[tuple[dict[str, Any], str, int]]:
        """Each record, with the digest so far and its line's length; one of `DAMAGED` where it was changed since."""
        before = ""
        with self.part.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                record = line[: -len(_sealed(""))] + b"}"
                before = _digest_of(record, before)
                if not line.endswith(_sealed(before)):
                    raise LookupError("sha256")
                yield json.loads(record), before, len(line)

    def _write(self, record: dict[str, Any]) -> None:
        """Append a line to the part file and have it on the disk."""
        text = json.dumps(record, allow_nan=False).encode("ascii")
        digest = _digest_of(text, self._digest)
        line = text[:-1] + _sealed(digest)
        self._check_part()
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(f"{self.part}: {error}. Run the command again when it can be written") from error
        self._digest = digest
        self._size += len(line)

    def _check_part(self) -> None:
        """ValueError unless the part file is the one that is open here, with as much in it as was written."""
        try:
            found = self.part.stat()
        except FileNotFoundError:
            raise self._changed("it was deleted") from None
        if not os.path.samestat(found, os.fstat(self._file.fileno())):
            raise self._changed("another file has taken its place")
        if found.st_size != self._size:
            raise self._changed(f"it has {found.st_size} bytes, {self._size} were written")

    def _changed(self, what: str) -> ValueError:
        return ValueError(
            f"{self.part}: expected what this run has written, but {what}: something else changed it. The output is "
            "not complete. Run the command again: it goes on from what is left"
        )

    def _read_state(self) -> None:
        state = json.loads(self.state.read_text(encoding="utf-8"))
        self.rows, self.pairs, self.failed = state["rows"], state["pairs"], state["failed"]
        self._check(state["fingerprint"])
        if self.output.name not in state["sha256"]:
            raise LookupError(self.output.name)
        for path, digest in ((self.output.with_name(name), digest) for name, digest in state["sha256"].items()):
            found = sha256_of(path) if path.is_file() else None
            if found != digest:
                was = "no such file" if found is None else "one that was changed since"
                raise ValueError(
                    f"{path}: expected the file that {self.state} says is complete, received {was}. {OVERWRITE}"
                )
        self.part.unlink(missing_ok=True)

    def _resume(self) -> None:
        """Count what the part file holds, and drop a last line that was not written to its end."""
        for record, digest, length in self._batches():
            if self._size:
                self._count(**record)
            else:
                self._check(record["fingerprint"])
            self._digest, self._size = digest, self._size + length
        os.truncate(self.part, self._size)

    def _check(self, then: dict[str, Any]) -> None:
        now, say = self.fingerprint, json.dumps
        names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
        if names:
            differing = "; ".join(f"{name} ({say(then.get(name))} then, {say(now.get(name))} now)" for name in names)
            raise ValueError(
                f"{self.output}: expected to go on with the run that began it, received another one: {differing}. Run "
                f"it as then, or: {OVERWRITE}"
            )


def _digest_of(record: bytes, before: str) -> str:
    """The SHA-256 of the record's JSON and, as `before` is theirs, of all before it."""
    return hashlib.sha256(before.encode("ascii") + record).hexdigest()


def _sealed(digest: str) -> bytes:
    """The end of a record's line, in the place of its JSON's last brace."""
    return f', "sha256": "{digest:64}"}}\n'.encode("ascii")
