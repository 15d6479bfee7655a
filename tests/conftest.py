"""Fixtures for every test: a private real server, and a database without left-over keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.server import TestServer

# How long an example takes says something of the machine, not of what is tested.
settings.register_profile("kiqpy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kiqpy")

# The keys that may stay for good; all others must go or expire. A hash tag may stand before them.
_MAY_STAY = re.compile(
    r"(?:\{[^}]*\}:)?"
    r"(?:queues|queue:.+|schedule|retry|dead|stat:.+|processes|paused|unique:.+|kiq:.+)"
)
_MUST_EXPIRE = re.compile(r"(?:\{[^}]*\}:)?kiq:(?:push|settle|lease):.+")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {}


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """One private server for each xdist worker, without persistence; tests may kill or pause it."""
    with TestServer() as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """The prefix of the keys; a module whose tests use one overrides this."""
    return ""


@pytest.fixture
def clean(server: TestServer, namespace: str) -> Iterator[TestServer]:
    """An empty database; fails afterwards if an unknown key without a TTL is left."""
    server.resume()
    server.start()
    server.cli("FLUSHALL")
    yield server
    server.resume()
    if server.alive():
        left = leaked(server, namespace)
        assert not left, f"keys that nothing documents or that never expire: {left}"


def leaked(server: TestServer, namespace: str = "") -> list[str]:
    """Keys without a TTL that are not documented, or that must have one."""
    found = server.cli("KEYS", "*")
    assert isinstance(found, list)
    names = [str(key) for key in found]
    return sorted(key for key in names if _bad(key, namespace) and server.cli("PTTL", key) == -1)


def _bad(key: str, namespace: str) -> bool:
    name = key.removeprefix(namespace)
    return _MUST_EXPIRE.fullmatch(name) is not None or _MAY_STAY.fullmatch(name) is None


@pytest.fixture
def redis_url(clean: TestServer) -> str:
    """Where a store under test finds its server."""
    return clean.url


AddEffect = Callable[[str, str, Callable[..., None]], None]


@pytest.fixture
def add_effect(monkeypatch: pytest.MonkeyPatch) -> Iterator[AddEffect]:
    """Adds an effect to both stores for one test: its op, its Lua, its function in memory."""
    from kiqpy.store.memory import effects as in_memory
    from kiqpy.store.redis import scripts

    known = dict(scripts._effects())

    def add(op: str, lua: str, function: Callable[..., Any]) -> None:
        monkeypatch.setitem(in_memory.EFFECTS, op, function)
        scripts.add_effect(op, lua)

    yield add
    scripts._effects().clear()
    scripts._effects().update(known)
    scripts.script.cache_clear()
