"""docs/getting-started.md works as written: no server, no URL, an empty folder."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.page import snippets
from tests.server import until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "getting-started.md").read_text("utf-8")
_OURS = ("KIQPY_", "REDIS_URL", "PYTEST_")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="no FastAPI here"),
]


@contextmanager
def started(folder: Path, name: str, *words: str) -> Iterator[Path]:
    """A process of the page; what it writes is in the file. It must end well, and soon."""
    written = folder / f"{name}.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    with written.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, stdout=log, stderr=log,
            env={**inherited, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        yield written
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM), written.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def post(port: int, path: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_the_page_does_what_it_says(tmp_path: Path, apart: bool) -> None:
    program, _logging = (snippet.code for snippet in snippets(PAGE, "getting-started.md"))
    assert "uvicorn main:service\n" in PAGE
    assert "localhost:8000/signup?address=ada'" in PAGE
    assert 'The answer is `"queued"`' in PAGE
    assert "kiqpy run main:jobs\n" in PAGE
    if apart:
        assert "write `lifespan=jobs.client_lifespan`" in PAGE
        program = program.replace("lifespan=jobs.lifespan", "lifespan=jobs.client_lifespan")
    (tmp_path / "main.py").write_text(program)
    port = free_port()
    with started(tmp_path, "web", "uvicorn", "main:service", "--port", str(port)) as web:
        until(lambda: answers(port), "the service", 30)
        assert post(port, "/signup?address=ada") == '"queued"'
        if not apart:
            until(lambda: "welcome, ada" in web.read_text(), "the mail", 30)
        else:
            with started(tmp_path, "jobs", "kiqpy", "run", "main:jobs") as ran:
                until(lambda: "welcome, ada" in ran.read_text(), "the mail", 30)
            assert "welcome" not in web.read_text()
    assert "Traceback" not in web.read_text()
    assert (tmp_path / ".kiqpy").is_dir()
