"""The directory of the embedded server: who may enter, a short way to it, and its lock files."""

from __future__ import annotations

import hashlib
import os
import pathlib
import stat
import sys
import tempfile
import threading

from kiqpy.errors import ConfigError
from kiqpy.store.embedded.supervisor import SOCKET, USERS

if sys.platform != "win32":
    import fcntl

LOCK = "lock"
LOG = "server.log"
MAX_SOCKET_PATH_BYTES = 100  # the kernel's limit is 104 (macOS) or 108 (Linux) bytes


def prepare(directory: pathlib.Path) -> None:
    """Make the directory and its lock files, for this user alone."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            _close_to_others(directory)
        for name in (LOCK, USERS):
            os.close(os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        fix = "give the embedded server a directory of its own, or set REDIS_URL"
        raise ConfigError(f"can't use {directory}: {error}; {fix}") from error


def _close_to_others(directory: pathlib.Path) -> None:
    # Somebody's home or /tmp must not lose its permissions because it was named here by mistake.
    names = {entry.name for entry in directory.iterdir()}
    if names and USERS not in names:
        raise PermissionError("others may read it, and it holds other files")
    directory.chmod(0o700)


def short_path(directory: pathlib.Path) -> pathlib.Path:
    """The directory itself or, if its socket's path is too long, where a symlink to it belongs."""
    name = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    roots = filter(None, (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"))
    ways = [directory, *(pathlib.Path(root) / f"kiqpy-{os.getuid()}" / name for root in roots)]
    for way in ways:
        if len(os.fsencode(way / SOCKET)) <= MAX_SOCKET_PATH_BYTES:
            return way
    raise ConfigError(f"no path to {directory} is short enough for a socket; set TMPDIR=/tmp")


def link(way: pathlib.Path, directory: pathlib.Path) -> None:
    """Make `way` lead to the directory, through a folder that no other user can write to."""
    if way == directory:
        return
    way.parent.mkdir(mode=0o700, exist_ok=True)
    found = way.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{way.parent} is not a private directory of this user: remove it")
    fresh = way.with_name(f"{way.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory)
    fresh.replace(way)  # new each time, so that a cleaner of old files in /tmp leaves it alone


def try_lock(path: pathlib.Path, how: int) -> int | None:
    """A descriptor that holds the file's lock until it is closed; None if somebody else has it."""
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
