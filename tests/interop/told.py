"""What the jobs of both languages have told, and what a test looks at besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.process import Kiqpy
from tests.server import UTF8, TestServer, until


def told(server: TestServer, key: str) -> list[list[Any]]:
    """What was told under a key, each `[jid, *args]`, in order."""
    found = server.cli("LRANGE", f"test:{key}", 0, -1)
    assert isinstance(found, list)
    return [json.loads(str(line)) for line in found]


def wait_told(server: TestServer, key: str, count: int, within: float = 30.0) -> list[list[Any]]:
    until(lambda: size(server, f"test:{key}") >= count, f"{count} x {key}", within)
    return told(server, key)


def size(server: TestServer, key: str) -> int:
    kind = server.cli("TYPE", key)
    found = server.cli("ZCARD" if kind == "zset" else "LLEN", key)
    assert isinstance(found, int)
    return found


def raw(server: TestServer, key: str) -> list[bytes]:
    """A set's members, lowest score first; a queue's, next one first."""
    kind = server.cli("TYPE", key)
    found = server.cli("ZRANGE" if kind == "zset" else "LRANGE", key, 0, -1)
    assert isinstance(found, list)
    members = [str(text).encode(*UTF8) for text in found]
    return members if kind == "zset" else members[::-1]


def payloads(server: TestServer, key: str) -> list[dict[str, Any]]:
    return [json.loads(member) for member in raw(server, key)]


def due_now(server: TestServer, key: str) -> None:
    """Make all of a set due, as if its time had come."""
    for member in raw(server, key):
        server.cli("ZADD", key, "XX", 1, member)


def kiqpy(server: TestServer, folder: Path, *words: str) -> Kiqpy:
    """`kiqpy run` of python_jobs, as an operator starts it."""
    command = ("run", "tests.interop.python_jobs", "--redis", server.url, *words)
    return Kiqpy(folder, *command, INTEROP_SOCKET=str(server.socket))
