"""Runs `kiqpy ...` in this process; returns exit code, stdout and stderr."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from kiqpy.cli import main
from tests.server import TestServer


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Operator:
    """Someone at a shell, in an empty folder, who names the server each time."""

    def __init__(self, server: TestServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self._capsys = server, capsys

    def __call__(self, *words: str, redis: bool = True) -> Answer:
        where = ("--redis", self.server.url) if redis else ()
        code = main([words[0], *where, *words[1:]])
        out, err = self._capsys.readouterr()
        return Answer(code, out, err)

    def json(self, *words: str) -> Any:
        """What a command answers with --json; it must have gone well."""
        answer = self(*words, "--json")
        assert answer.code == 0, answer.err
        return answer.document

    def put(self, place: str, jid: str, *, score: float = 2e9, **fields: Any) -> None:
        job = {"class": "Send", "args": [1], "jid": jid, "queue": "mail", "retry": True, **fields}
        self.put_bytes(place, json.dumps(job).encode(), score)

    def put_bytes(self, place: str, raw: bytes, score: float = 2e9) -> None:
        if place.startswith("queue:"):
            self.server.cli("SADD", "queues", place.removeprefix("queue:"))
            self.server.cli("LPUSH", place, raw)
        else:
            self.server.cli("ZADD", {"scheduled": "schedule"}.get(place, place), score, raw)

    def size(self, key: str) -> Any:
        return self.server.cli("LLEN" if key.startswith("queue:") else "ZCARD", key)
