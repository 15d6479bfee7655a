"""`kiqpy run --health-port` with real processes: one, several, blocked, without a store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kiqpy import App
from kiqpy.cli._probes import ProcessProbes
from kiqpy.cli.fleet.listener import address_of
from tests.cli.process import Kiqpy, kiqpy
from tests.server import TestServer, until

SHOP = """
import pathlib, time
from kiqpy import App, worker

HERE = pathlib.Path(__file__).parent

@worker
async def block(name: str) -> None:
    (HERE / (name + ".began")).touch()
    while not (HERE / (name + ".go")).exists():
        time.sleep(0.01)

class Jobs(App):
    queues = {"default": 5}
    workers = [block]
    unready_after = 0.2
    heartbeat_interval = 0.5

jobs = Jobs()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def started(folder: Path, server: TestServer, *words: str, **variables: str) -> Kiqpy:
    run = ("run", "shop", "--redis", server.url, "--health-port", "127.0.0.1:0", *words)
    return Kiqpy(folder, *run, **variables)


def ask(it: Kiqpy, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    """What is answered to a request at the place that it has told."""
    it.says("health is at ")
    found = re.search(r"health is at (http://[^/]+)/", it.err)
    assert found is not None
    request = urllib.request.Request(found[1] + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    return status, json.loads(body) if body.startswith(b"{") else {}


def answers(it: Kiqpy, path: str, status: int, within: float = 30) -> dict[str, Any]:
    until(lambda: ask(it, path)[0] == status or not it.alive(), f"{status} for {path}", within)
    return ask(it, path)[1]


def push(server: TestServer, jid: str) -> None:
    payload = {"class": "block", "args": [jid], "queue": "default", "jid": jid, "retry": True}
    server.cli("SADD", "queues", "default")
    server.cli("LPUSH", "queue:default", json.dumps(payload))


def test_a_process_answers_from_its_start_to_its_end(shop: Path, clean: TestServer) -> None:
    with started(shop, clean) as it:
        report = answers(it, "/ready", 200)
        assert report["live"]
        assert [check["name"] for check in report["checks"] if not check["ok"]] == []
        assert ask(it, "/live")[0] == 200
        assert ask(it, "/live", "HEAD") == (200, {})
        assert ask(it, "/other")[0] == 404
        assert ask(it, "/live", "POST")[0] == 501
        it.send(signal.SIGTERM)
        assert it.ends() == 0


def test_a_blocked_loop_is_busy_not_dead_and_is_unready(shop: Path, clean: TestServer) -> None:
    with started(shop, clean) as it:
        answers(it, "/ready", 200)
        push(clean, "b1")
        until((shop / "b1.began").exists, "the job", 30)
        report = answers(it, "/ready", 503)
        blocked = next(check for check in report["checks"] if check["name"] == "event_loop")
        assert blocked["why"].startswith("the event loop has not answered for ")
        assert ask(it, "/live")[0] == 200
        (shop / "b1.go").touch()
        answers(it, "/ready", 200)
        it.send(signal.SIGTERM)
        assert it.ends() == 0


def test_a_loop_that_is_blocked_for_too_long_is_dead(clean: TestServer) -> None:
    """A server ends itself then, if its heartbeat can; here none beats."""
    app = App(redis_url=clean.url, unready_after=0, stuck_after=0.5)
    probes, blocked, release = ProcessProbes(app), threading.Event(), threading.Event()

    async def block() -> None:
        probes.watch(asyncio.get_running_loop())
        async with app.client_only():
            blocked.set()
            release.wait(60)

    thread = threading.Thread(target=lambda: asyncio.run(block()))
    thread.start()
    assert blocked.wait(30)
    until(lambda: probes.answer("/live").status == 503, "its death", 30)
    assert b"the event loop has not answered for " in probes.answer("/live").body
    release.set()
    thread.join(30)
    ended = probes.answer("/ready")
    assert (ended.status, b"the app has ended" in ended.body) == (503, True)
    assert probes.answer("/live").status == 200


def test_the_supervisor_answers_for_all(shop: Path, clean: TestServer) -> None:
    with started(shop, clean, "--processes", "2") as it:
        report = answers(it, "/ready", 200, 60)
        assert len(report["workers"]) == 2
        first = min(report["workers"], key=int)
        assert all(told["ready"] for told in report["workers"].values())
        assert ask(it, "/live")[0] == 200
        push(clean, "b1")
        until((shop / "b1.began").exists, "the job", 30)
        answers(it, "/ready", 503)
        assert ask(it, "/live")[0] == 200
        (shop / "b1.go").touch()
        answers(it, "/ready", 200)
        os.kill(int(first), signal.SIGKILL)
        until(lambda: first not in ask(it, "/live")[1]["workers"], "its end", 30)
        again = answers(it, "/ready", 200, 60)
        assert first not in again["workers"]
        it.send(signal.SIGTERM)
        assert it.ends() == 0


def test_the_environment_counts_and_the_workers_do_not_listen(
    shop: Path, clean: TestServer
) -> None:
    port = {"KIQPY_HEALTH_PORT": "127.0.0.1:0"}
    words = ("run", "shop", "--redis", clean.url, "--processes", "2")
    with Kiqpy(shop, *words, **port) as it:
        answers(it, "/ready", 200, 60)
        assert it.err.count("health is at ") == 1
        it.ctrl_c()
        assert it.ends() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_an_error_of_one_line(
    processes: str, shop: Path, clean: TestServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("--processes", processes, "--health-port", f"127.0.0.1:{port}")
        code, _, err = kiqpy(shop, "run", "shop", "--redis", clean.url, *words)
    assert code == 1
    (line,) = err.splitlines()
    assert f"can't listen on 127.0.0.1:{port}: Address already in use" in line
    assert "--health-port" in line


@pytest.mark.parametrize("text", ["", "x", "70000", "host:", "-1", ":"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no port"):
        address_of(text)


def test_addresses() -> None:
    assert address_of("8080") == ("0.0.0.0", 8080)
    assert address_of("localhost:1") == ("localhost", 1)
    assert address_of("[::1]:9") == ("::1", 9)
