"""The directory of the embedded server: its permissions, a short path to it, its lock files."""

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
_HIDDEN = ".gitignore"  # a checkout may hold it
MAX_SOCKET_PATH_BYTES = 100  # the kernel's limit is 104 (macOS) or 108 (Linux) bytes


def prepare(directory: pathlib.Path) -> None:
    """Create the directory and its lock files, for this user only.

    Raises: ConfigError: the directory cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            _close_to_others(directory)
        for name in (LOCK, USERS):
            os.close(os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600))
        _hide_from_git(directory / _HIDDEN)
    except OSError as error:
        fix = "say embedded_dir=, a directory that this user can write to, or set REDIS_URL"
        raise ConfigError(f"can't use {directory}: {error}; {fix}") from error


def _hide_from_git(path: pathlib.Path) -> None:
    """So that `git add .` takes no data; a file that is there is somebody's."""
    if not path.exists():
        path.write_text("*\n")


def _close_to_others(directory: pathlib.Path) -> None:
    # A home directory or /tmp, named here by mistake, must keep its permissions.
    names = {entry.name for entry in directory.iterdir()} - {_HIDDEN}
    if names and USERS not in names:
        raise PermissionError("others may read it, and it holds other files")
    directory.chmod(0o700)


def short_path(directory: pathlib.Path) -> pathlib.Path:
    """The directory itself, or where a symlink to it belongs if its socket's path is too long."""
    name = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    roots = filter(None, (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"))
    links = (pathlib.Path(root) / f"kiqpy-{os.getuid()}" / name for root in roots)
    for path in (directory, *links):
        if len(os.fsencode(path / SOCKET)) <= MAX_SOCKET_PATH_BYTES:
            return path
    raise ConfigError(f"no path to {directory} is short enough for a socket; set TMPDIR=/tmp")


def link(path: pathlib.Path, directory: pathlib.Path) -> None:
    """Make `path` a symlink to the directory, in a folder that only this user can write to.

    Raises: ConfigError: there is such a folder, and others can write to it.
    """
    if path == directory:
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    found = path.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{path.parent} is not a private directory of this user: remove it")
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory)
    fresh.replace(path)  # always new: a program that deletes old files in /tmp must leave it


def try_lock(path: pathlib.Path, how: int) -> int | None:
    """A descriptor that holds the file's lock until it is closed; None if the lock is taken."""
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
