"""Proof that a process on this host has ended: a file lock, which the kernel frees at any end.

Each process that claims jobs holds `flock` on a file named by its ident. If the file exists and its
lock is free, the process has ended, and its lease need not run out first. On another host the file
does not exist; there the lease decides.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import final

try:
    import fcntl
except ImportError:  # Windows: no proof, the lease decides
    fcntl = None  # type: ignore[assignment]


def _file(ident: str) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"kiqpy-{user}" / f"{ident}.lock"


@final
class ProcessLock:
    """The lock on this process's file, held from `acquire` to `release` or to its end."""

    def __init__(self, ident: str) -> None:
        self._path = _file(ident)
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock. If the file cannot be written, the lease decides; that is no error."""
        if fcntl is None or self._handle is not None:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give up the lock and remove the file; idempotent."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def is_dead(ident: str) -> bool:
    """Whether the process ran on this host and has ended without removing its file."""
    if fcntl is None:
        return False
    try:
        handle = os.open(_file(ident), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def remove(ident: str) -> None:
    """Remove the file of a dead process; call it when all its jobs are rescued."""
    _file(ident).unlink(missing_ok=True)
