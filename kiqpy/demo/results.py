"""The demo's results: one row for each file, in an SQLite file that outlives any crash.

The SQLite file decides what is done; Redis only carries the jobs. A row is `todo` until its file
is parsed (the child process writes that before its job ends) or its job is dead. So a job may run
twice, be enqueued twice or be lost in a power cut, and each file still counts once.
"""

from __future__ import annotations

import heapq
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Generator

_VERSION: Final = 1
_TABLES: Final = """
DROP TABLE IF EXISTS run;
DROP TABLE IF EXISTS file;
CREATE TABLE run (
    id TEXT PRIMARY KEY, started_at REAL NOT NULL,
    starts INTEGER NOT NULL, reported INTEGER NOT NULL
);
CREATE TABLE file (
    path TEXT PRIMARY KEY, run TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'todo',
    lines INTEGER, functions INTEGER, imports INTEGER,
    longest TEXT,
    waited_s REAL, took_s REAL, error TEXT
) WITHOUT ROWID;
"""


class DemoRun(NamedTuple):
    """One pass over a list of files, which may take several starts."""

    id: str
    started_at: float
    starts: int


class ParsedFile(NamedTuple):
    """The counts of one file."""

    lines: int
    functions: int
    imports: int
    longest: list[tuple[int, str, int]]  # lines, name and first line; the longest first


@final
class Results:
    """The SQLite file. Any process may open it; each write is one transaction of its own."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._db = sqlite3.connect(
            self.path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def prepare(self) -> None:
        """Create the tables if they do not exist."""
        if self._value("PRAGMA user_version") != _VERSION:
            self._db.executescript(_TABLES)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    # -- the run

    def unfinished(self) -> DemoRun | None:
        """The run that was not finished, with this start counted; None if there is none."""
        self._db.execute("UPDATE run SET starts = starts + 1 WHERE reported = 0")
        row = self._db.execute("SELECT id, started_at, starts FROM run WHERE reported = 0")
        found = row.fetchone()
        return DemoRun(*found) if found else None

    def begin(self, run: DemoRun, paths: Iterable[str]) -> None:
        """Delete the last run and start this one with these files."""
        with self._transaction():
            self._db.execute("DELETE FROM run")
            self._db.execute("DELETE FROM file")
            self._db.execute("INSERT INTO run VALUES (?, ?, ?, 0)", run)
            rows = [(path, run.id) for path in paths]
            self._db.executemany("INSERT INTO file (path, run) VALUES (?, ?)", rows)

    def reported(self) -> None:
        """Mark the run as finished: the next start begins a new one."""
        self._db.execute("UPDATE run SET reported = 1")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- the files

    def is_todo(self, run: str, path: str) -> bool:
        """Whether this run still has to parse that file."""
        ask = "SELECT count(*) FROM file WHERE path = ? AND run = ? AND state = 'todo'"
        return bool(self._value(ask, path, run))

    def todo(self) -> list[str]:
        """The files that are neither parsed nor failed."""
        rows = self._db.execute("SELECT path FROM file WHERE state = 'todo' ORDER BY path")
        return [path for (path,) in rows]

    def parsed(
        self, run: str, path: str, found: ParsedFile, waited_s: float, took_s: float
    ) -> None:
        """Save the result of a file; a later result for the same file is ignored."""
        self._db.execute(
            "UPDATE file SET state = 'done', lines = ?, functions = ?, imports = ?, longest = ?, "
            "waited_s = ?, took_s = ? "
            "WHERE path = ? AND run = ? AND state = 'todo'",
            (*found[:-1], json.dumps(found.longest), waited_s, took_s, path, run),
        )

    def given_up(self, run: str, reasons: Mapping[str, str]) -> None:
        """Save that the jobs of these files are dead, with the reasons."""
        rows = [(reason, path, run) for path, reason in reasons.items()]
        with self._transaction():
            self._db.executemany(
                "UPDATE file SET state = 'dead', error = ? "
                "WHERE path = ? AND run = ? AND state = 'todo'",
                rows,
            )

    # -- what came out

    def counts(self) -> dict[str, int]:
        """How many files are todo, done and dead."""
        found = dict(self._db.execute("SELECT state, count(*) FROM file GROUP BY state"))
        return {state: found.get(state, 0) for state in ("todo", "done", "dead")}

    def folder(self) -> str:
        """The folder that all paths have in common."""
        first, last = self._rows("SELECT min(path), max(path) FROM file")[0]
        return str(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)]))

    def totals(self) -> Sequence[int]:
        """Lines, functions and imports of all files."""
        ask = "SELECT total(lines), total(functions), total(imports) FROM file"
        return [int(value) for value in self._rows(ask)[0]]

    def longest(self, count: int) -> list[tuple[int, str, str, int]]:
        """The longest functions: lines, name, path, first line."""
        rows = self._rows("SELECT path, longest FROM file WHERE longest IS NOT NULL")
        found = [(n, name, path, at) for path, text in rows for n, name, at in json.loads(text)]
        return heapq.nsmallest(count, found, key=lambda function: (-function[0], *function[2:]))

    def failures(self) -> list[tuple[str, str]]:
        """Path and reason of each file whose job is dead."""
        return self._rows("SELECT path, error FROM file WHERE state = 'dead' ORDER BY path")

    def waits(self) -> list[float]:
        """Seconds from enqueue to start, ascending."""
        ask = "SELECT waited_s FROM file WHERE waited_s IS NOT NULL ORDER BY waited_s"
        return [seconds for (seconds,) in self._rows(ask)]

    def _rows(self, ask: str, *values: Any) -> list[Any]:
        with closing(self._db.execute(ask, values)) as cursor:
            return cursor.fetchall()

    def _value(self, ask: str, *values: Any) -> Any:
        return self._rows(ask, *values)[0][0]
