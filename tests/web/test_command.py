"""`kiqpy web` in a process of its own, and the dashboard of an installed wheel."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

import kiqpy
from tests.cli.process import Kiqpy
from tests.cli.process import kiqpy as run_kiqpy
from tests.server import TestServer, until

ROOT = Path(kiqpy.__file__).parents[1]
APP = """
from kiqpy import App, worker

@worker(queue="mail")
async def tidy(n: int) -> None: ...

jobs = App(queues={"mail": 5}, workers=[tidy], periodics=[("0 3 * * *", tidy, {"args": [1]})])
"""


def address(started: Kiqpy) -> str:
    started.says("The dashboard is at")
    found = re.search(r"http://\S+", started.err)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(
    number: signal.Signals, clean: TestServer, tmp_path: Path
) -> None:
    with Kiqpy(tmp_path, "web", "--redis", clean.url, "--port", "0") as started:
        url = address(started)
        with httpx.stream("GET", f"{url}/live") as live:  # an open page holds nothing up
            assert next(live.iter_lines()) == "retry: 1000"
            assert "This app declares no periodic jobs" in httpx.get(f"{url}/periodic").text
            started.send(number)
            assert started.ends(10) == 0
    assert "Traceback" not in started.err


def test_with_an_app_it_knows_the_periodics(clean: TestServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    words = ("web", "--app", "shop:jobs", "--port", "0", "--read-only")
    with Kiqpy(tmp_path, *words, KIQPY_REDIS_URL=clean.url) as started:
        text = httpx.get(f"{address(started)}/periodic").text
        assert "tidy" in text
        assert "Run now" not in text


def test_an_action_is_a_line_in_the_log(clean: TestServer, tmp_path: Path) -> None:
    variables = {"KIQPY_WEB_AUTH": "ann:secret"}
    words = ("web", "--redis", clean.url, "--port", "0")
    with Kiqpy(tmp_path, *words, **variables) as started:
        url = address(started)
        form = {"do": "pause", "target": "mail"}
        headers = {"Sec-Fetch-Site": "same-origin"}
        assert httpx.post(f"{url}/act", data=form, headers=headers).status_code == 401
        done = httpx.post(f"{url}/act", data=form, headers=headers, auth=("ann", "secret"))
        assert done.status_code == 303
        until(lambda: "web.action" in started.err, "the line")
        line = next(line for line in started.err.splitlines() if "web.action" in line)
        assert '"user":"ann"' in line
        assert '"action":"pause"' in line


def test_other_machines_need_a_password(clean: TestServer, tmp_path: Path) -> None:
    code, _, said = run_kiqpy(tmp_path, "web", "--redis", clean.url, "--host", "0.0.0.0")
    assert code == 1
    assert "set KIQPY_WEB_AUTH=name:password" in said


def test_a_port_that_is_taken(clean: TestServer, tmp_path: Path) -> None:
    with Kiqpy(tmp_path, "web", "--redis", clean.url, "--port", "0") as started:
        port = address(started).rpartition(":")[2]
        code, _, said = run_kiqpy(tmp_path, "web", "--redis", clean.url, "--port", port)
    assert code == 1
    assert said.splitlines()[-1] == (
        f"kiqpy: can't listen on 127.0.0.1:{port}: Address already in use; choose another --port"
    )


def test_without_the_extra_it_says_what_to_install(clean: TestServer, tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise ImportError('as if it were not installed')")
    code, _, said = run_kiqpy(
        tmp_path, "web", "--redis", clean.url, PYTHONPATH=f"{tmp_path}:{ROOT}"
    )
    assert code == 1
    assert "pip install 'kiqpy[web]'" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_wheel_has_all_that_the_pages_need(tmp_path: Path) -> None:
    """It is built and unpacked, and the dashboard of the unpacked package answers."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kiqpy", source / "kiqpy", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), "."]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip("the build backend can't be had here")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    inside = {path.name for path in (tmp_path / "installed" / "kiqpy" / "web").rglob("*.*")}
    wanted = {path.name for path in (ROOT / "kiqpy" / "web").rglob("*.*")}
    assert {name for name in wanted if not name.endswith(".pyc")} <= inside


def test_ipv6(clean: TestServer, tmp_path: Path) -> None:
    words = ("web", "--redis", clean.url, "--port", "0", "--host", "::1")
    with Kiqpy(tmp_path, *words) as started:
        started.says("http://[::1]:" if _has_ipv6() else "can't listen on")


def _has_ipv6() -> bool:
    async def listen() -> bool:
        try:
            server = await asyncio.start_server(lambda *_: None, "::1", 0)
        except OSError:
            return False
        server.close()
        return True

    return asyncio.run(listen())
