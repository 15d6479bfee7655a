"""Each example runs as a process, answers HTTP requests, and stops on a signal."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server import TestServer, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
UVICORN = ["uvicorn", "--host", "127.0.0.1", "--port"]
COMMANDS = {
    "fastapi_app": [*UVICORN, "PORT", "fastapi_app:service"],
    "local_mailer": [*UVICORN, "PORT", "local_mailer:service"],
    "starlette_wrapped": [*UVICORN, "PORT", "starlette_wrapped:service"],
    "aiohttp_app": ["aiohttp.web", "-H", "127.0.0.1", "-P", "PORT", "aiohttp_app:make"],
}
_OURS = ("KIQPY_", "REDIS_URL", "PYTEST_")


class Service:
    """A started example."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self._root = process, f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + path, data, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def up(self) -> bool:
        assert self.process.poll() is None, "it ended before it answered"
        try:
            self.ask("/signups")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def ends(self) -> str:
        """Ask it to end; what it wrote. Neither it nor its jobs may take long."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=15)[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(name: str, redis_url: str, folder: Path) -> Iterator[Service]:
    module = COMMANDS[name][0].partition(".")[0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here")
    port = free_port()
    words = [word.replace("PORT", str(port)) for word in COMMANDS[name]]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**inherited, "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT}", "REDIS_URL": redis_url},
    )  # fmt: skip
    service = Service(process, port)
    try:
        until(service.up, f"an answer of {name}", 30)
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            print(process.communicate()[0])


def left(server: TestServer) -> dict[str, Any]:
    """What of the jobs is still in Redis, and who claims to be running."""
    return {
        "queued": server.cli("LLEN", "queue:mail"),
        "retried": server.cli("ZCARD", "retry"),
        "dead": server.cli("ZCARD", "dead"),
        "held": server.cli("KEYS", "kiq:private|*"),
        "processes": server.cli("SMEMBERS", "processes"),
    }


NOTHING = {"queued": 0, "retried": 0, "dead": 0, "held": [], "processes": []}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signup_is_followed_by_its_mail(name: str, clean: TestServer, tmp_path: Path) -> None:
    wrapped = name == "starlette_wrapped"
    before = ["operator@example.org"] if wrapped else []
    with serving(name, clean.url, tmp_path) as service:
        for n in range(20):
            receipt = service.ask("/signup", {"address": f"ada{n}"})
            assert receipt["state"] == "queued"
            assert len(receipt["jid"]) == 24
        domain = "@example.org" if wrapped else ""
        everyone = {*before, *(f"ada{n}{domain}" for n in range(20))}
        until(lambda: set(service.ask("/signups")) == everyone, "every mail")
        assert len(service.ask("/signups")) == len(everyone)
        assert len(list(clean.cli("SMEMBERS", "processes"))) == 1  # type: ignore[arg-type]
        written = service.ends()
    # uvicorn ends by the signal that it was sent, once all is done
    assert service.process.returncode in (0, -signal.SIGTERM), written
    assert "Traceback" not in written
    assert left(clean) == NOTHING
    assert clean.cli("GET", "stat:processed") == str(len(everyone))


def test_every_example_is_tried_and_told_of() -> None:
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    assert found == COMMANDS.keys()
    told = (EXAMPLES / "README.md").read_text("utf-8")
    assert [name for name in found if f"`{name}.py`" not in told] == []
