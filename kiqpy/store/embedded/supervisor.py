"""Runs one server for as long as anybody uses its directory.

A program of its own (`python -I -S _supervisor.py PROGRAM`, in the server's directory). It imports
next to nothing, because it stands between a crash and the next server. It is nobody's child: the
server must not end with the process that happened to start it while others still use it.
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
# Relative names only: a directory may be long, or hold what a server's option parser trips over.
OPTIONS = (
    *("--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700", "--dir", "."),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
)
PATIENCE_S = 10.0


def supervise(program: str) -> None:
    """Start the server in the current directory and return when it has ended.

    The server inherits the lock's descriptor from us and holds it until the kernel has buried it.
    """
    users = os.open(USERS, os.O_RDWR | os.O_CREAT, 0o600)
    server = os.posix_spawn(program, [program, *OPTIONS], os.environ)

    def forward(signum: int, _frame: object) -> None:
        os.kill(server, signum)

    signal.signal(signal.SIGTERM, forward)
    _thread.start_new_thread(_end_when_unused, (server, users))
    os.waitpid(server, 0)


def _end_when_unused(server: int, users: int) -> None:
    # Granted when the last user is gone, however it went; newcomers then wait for our end too.
    fcntl.flock(users, fcntl.LOCK_EX)
    os.kill(server, signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os.kill(server, signal.SIGKILL)


def main(program: str) -> None:
    """Detach from the process that started us, then supervise."""
    if os.fork() == 0:
        # A thread that blocked SIGTERM may have started us; the server must be able to hear it.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        supervise(program)


if __name__ == "__main__":
    main(sys.argv[1])
