"""A free lock file proves that a process is dead; a held one, or none, proves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kiqpy.clock import SystemClock
from kiqpy.store._session import Session
from kiqpy.store.redis.backend import RedisBackend
from kiqpy.store.redis.liveness import ProcessLock, is_dead, remove
from tests.server import TestServer
from tests.store.contract import heartbeat

DIES = """
import os, sys
from kiqpy.store.redis.liveness import ProcessLock
ProcessLock(sys.argv[1]).acquire()
os._exit(9)
"""


@pytest.fixture
def dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a process die that held its lock."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(ident: str) -> None:
        subprocess.run(
            [sys.executable, "-c", DIES, ident], check=False, env={"TMPDIR": str(tmp_path)}
        )

    return run


def test_only_the_dead_are_dead(dies: Callable[[str], None]) -> None:
    alive = ProcessLock("host:1:aa")
    assert not is_dead("host:1:aa")
    alive.acquire()
    alive.acquire()
    assert not is_dead("host:1:aa")
    alive.release()
    alive.release()
    assert not is_dead("host:1:aa")
    dies("host:2:bb")
    assert is_dead("host:2:bb")
    assert is_dead("host:2:bb")
    remove("host:2:bb")
    assert not is_dead("host:2:bb")


@pytest.mark.anyio
async def test_what_proved_a_death_is_removed_when_nothing_is_left_to_rescue(
    clean: TestServer, dies: Callable[[str], None]
) -> None:
    """Each crash left a file behind."""
    dies("host:2:bb")
    clean.cli("HSET", "kiq:private|host:2:bb|q", 1, '{"class":"A","args":[],"jid":"x"}')
    clean.cli("SADD", "kiq:privs", "host:2:bb|q", "host:2:bb|p")
    clock = SystemClock()
    session = Session(RedisBackend(clean.url, "host:3:cc"), clock, ("schedule", "retry"))
    session.beat(heartbeat("q"))
    (rescued,) = (await session.rescue()).rescued
    assert (rescued.jid, rescued.recoveries) == ("x", 1)
    assert is_dead("host:2:bb")
    assert (await session.rescue()).rescued == []
    await session.close()
    assert not is_dead("host:2:bb")
