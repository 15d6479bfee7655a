"""A record of what really happened, outside of Redis, and a view of the server from outside."""

from __future__ import annotations

import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable
from typing import cast

from tests.server import TestServer


class Oracle:
    """Lines that processes append, each in one write, so that a kill leaves whole lines only."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.touch()

    def lines(self, word: str) -> list[list[str]]:
        """The words after `word` of each line that begins with it."""
        found = (line.split() for line in self.path.read_text().splitlines())
        return [words[1:] for words in found if words and words[0] == word]

    def count(self, word: str) -> Counter[str]:
        """How often each first word came after `word`."""
        return Counter(words[0] for words in self.lines(word))


def words(reply: object) -> list[str]:
    assert isinstance(reply, list)
    return [str(word) for word in reply]


def number(reply: object) -> int:
    assert isinstance(reply, int)
    return reply


def queued(server: TestServer, queue: str) -> list[str]:
    """The payloads of a queue, newest first."""
    return words(server.cli("LRANGE", f"queue:{queue}", 0, -1))


def held(server: TestServer, ident: str = "*") -> dict[str, int]:
    """Every private hash and inbox that holds anything, with how much."""
    found: dict[str, int] = {}
    for key in words(server.cli("KEYS", f"kiq:private|{ident}|*")):
        found[key] = number(server.cli("HLEN", key))
    for key in words(server.cli("KEYS", f"kiq:inbox|{ident}|*")):
        found[key] = number(server.cli("LLEN", key))
    return {key: n for key, n in found.items() if n}


def jids(payloads: Iterable[str]) -> Counter[str]:
    return Counter(cast("str", json.loads(payload)["jid"]) for payload in payloads)


# In one step, for a job that moves between two reads would be seen in neither place.
_EVERYWHERE = """
local found = {}
local function add(payloads) for _, one in ipairs(payloads) do found[#found + 1] = one end end
for _, queue in ipairs(ARGV) do add(redis.call('LRANGE', 'queue:' .. queue, 0, -1)) end
for _, place in ipairs({'schedule', 'retry', 'dead'}) do
  add(redis.call('ZRANGE', place, 0, -1))
end
for _, key in ipairs(redis.call('KEYS', 'kiq:private|*')) do add(redis.call('HVALS', key)) end
for _, key in ipairs(redis.call('KEYS', 'kiq:inbox|*')) do add(redis.call('LRANGE', key, 0, -1)) end
return found
"""


def everywhere(server: TestServer, queues: Iterable[str]) -> Counter[str]:
    """How often each jid is in Redis, wherever, at one instant."""
    return jids(words(server.cli("EVAL", _EVERYWHERE, 0, *queues)))


def environment(**more: str) -> dict[str, str]:
    """For a child process: this repository on its path, and nothing that names a server."""
    root = str(pathlib.Path(__file__).parents[2])
    kept = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "KIQPY_REDIS_URL")}
    return {**kept, "PYTHONPATH": root, **more}
