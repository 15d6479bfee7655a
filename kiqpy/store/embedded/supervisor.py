"""Runs one server for as long as any process uses its directory.

A program of its own (`python -I -S supervisor.py PROGRAM`, in the server's directory). It imports
little, because after a crash the next server waits for it. It is detached from the process that
starts it, so that the server goes on for the others when that process ends.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time

if sys.platform != "win32":
    import fcntl

SOCKET = "server.sock"
USERS = "users"
# Relative names only: the directory's path may be too long, or contain quotes.
OPTIONS = (
    *("--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700", "--dir", "."),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
)
KILL_AFTER_S = 10.0  # when SIGTERM has not ended the server


def supervise(program: str) -> None:
    """Start the server in the current directory and return when it has ended.

    The server inherits the descriptor of the lock, and holds the lock until the kernel has reaped
    the process.
    """
    users = os.open(USERS, os.O_RDWR | os.O_CREAT, 0o600)
    server = os.posix_spawn(program, [program, *OPTIONS], os.environ)

    def forward(signum: int, _frame: object) -> None:
        os.kill(server, signum)

    signal.signal(signal.SIGTERM, forward)
    _thread.start_new_thread(_end_when_unused, (server, users))
    os.waitpid(server, 0)


def _end_when_unused(server: int, users: int) -> None:
    # Granted when the last user has ended, in whatever way. New users wait until we have ended.
    fcntl.flock(users, fcntl.LOCK_EX)
    os.kill(server, signal.SIGTERM)
    time.sleep(KILL_AFTER_S)
    os.kill(server, signal.SIGKILL)


def main(program: str) -> None:
    """Detach from the process that started us, then supervise."""
    if os.fork() == 0:
        # The thread that started us may have blocked SIGTERM; the server must get it.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        supervise(program)


if __name__ == "__main__":
    main(sys.argv[1])
