"""`kiqpy run --processes N` with real processes and a real server."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiqpy.cli.fleet.supervisor import resident_mb
from tests.cli.process import ROOT, Kiqpy, kiqpy
from tests.server import TestServer, until

SHOP = """
import asyncio, os, pathlib
from kiqpy import App, worker

HERE = pathlib.Path(__file__).parent
DONE = os.open(HERE / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
BEGUN = os.open(HERE / "begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
held = []

@worker
async def mark(name: str) -> None:
    os.write(BEGUN, f"{name} {os.getpid()}\\n".encode())
    await asyncio.sleep(0.03)
    os.write(DONE, f"{name} {os.getpid()}\\n".encode())

@worker
async def gated(name: str) -> None:
    (HERE / (name + ".began")).write_text(str(os.getpid()))
    while not (HERE / (name + ".go")).exists():
        await asyncio.sleep(0.01)
    os.write(DONE, f"{name} {os.getpid()}\\n".encode())

@worker
async def eat(name: str) -> None:
    held.append(bytearray(os.urandom(1024) * 1024 * 100))
    os.write(DONE, f"{name} {os.getpid()}\\n".encode())

class Jobs(App):
    queues = {"default": 5}
    workers = [mark, gated, eat]

jobs = Jobs()
"""
QUEUE = "queue:default"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


class Fleet(Kiqpy):
    """A supervisor and its workers, as the kernel and its own lines tell of them."""

    folder: Path

    def workers(self) -> list[int]:
        """The pids of its children that are up."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        up = [
            int(pid)
            for pid in re.findall(r"^kiqpy: .*\(pid (\d+)\) is up$", self.err, re.MULTILINE)
        ]
        return [pid for pid in up if str(pid) in children]

    def full(self, n: int) -> list[int]:
        until(lambda: len(self.workers()) == n or not self.alive(), f"{n} workers", 60)
        assert self.alive(), self.err
        return self.workers()


def fleet(folder: Path, server: TestServer, n: int, *words: str, **variables: str) -> Fleet:
    given = ("--redis", server.url, "--processes", str(n), *words)
    started = Fleet(folder, "run", "shop", *given, **variables)
    started.full(n)
    return started


def push(server: TestServer, name: str, *jids: str) -> None:
    common = {"class": name, "queue": "default", "retry": True}
    server.cli("SADD", "queues", "default")
    server.cli("LPUSH", QUEUE, *(json.dumps({**common, "jid": j, "args": [j]}) for j in jids))


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def done(folder: Path, file: str = "done") -> list[tuple[str, int]]:
    """The jobs that have ended, or `begun`, and the process of each."""
    lines = (folder / file).read_text().splitlines()
    return [(name, int(pid)) for name, pid in (line.split() for line in lines)]


def began(folder: Path, *names: str) -> list[int]:
    """Where these jobs run."""
    paths = [folder / f"{name}.began" for name in names]
    until(lambda: all(path.exists() and path.read_text() for path in paths), f"{names} to run", 30)
    return [int(path.read_text()) for path in paths]


def gone(pid: int) -> bool:
    """It has ended; whoever is its parent now may not have noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def nothing_held(server: TestServer) -> bool:
    return server.cli("KEYS", "kiq:private|*") == server.cli("KEYS", "kiq:inbox|*") == []


def processed(server: TestServer) -> int:
    found = server.cli("GET", "stat:processed")
    return int(found) if isinstance(found, str) else 0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_three_drain_a_queue_together_and_end_cleanly(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 3) as it:
        began_at, spent = time.monotonic(), cpu_s(it.pid)
        pids = it.workers()
        jobs = names("j", 600)
        push(clean, "mark", *jobs)
        until(lambda: processed(clean) == 600, "the end of all jobs", 60)
        ended = done(shop)
        assert Counter(name for name, _ in ended) == Counter(jobs)
        assert {pid for _, pid in ended} == set(pids)
        assert resident_mb(it.pid) <= 15
        assert cpu_s(it.pid) - spent < 0.05 + 0.1 * (time.monotonic() - began_at)
        it.send(signal.SIGTERM)
        assert it.ends() == 0
        assert all(gone(pid) for pid in pids)
        assert nothing_held(clean)
        assert it.err.count("ctrl-c to stop") == 1
        assert f"3 processes, pid {it.pid}" in it.err
        assert it.err.count("stopping 3 processes: running jobs get 25 s") == 1


@pytest.mark.slow
def test_one_that_is_killed_is_started_again_and_its_jobs_are_run(
    shop: Path, clean: TestServer
) -> None:
    with fleet(shop, clean, 3) as it:
        jobs = names("g", 15)
        push(clean, "gated", *jobs)
        first = began(shop, *jobs)
        assert Counter(first) == dict.fromkeys(it.workers(), 5)
        os.kill(first[0], signal.SIGKILL)
        it.says(f"(pid {first[0]}) was killed by SIGKILL (if nobody sent it,")
        it.says("starting it again in 1 s")
        assert not Path(f"/proc/{first[0]}").exists()  # no zombie
        assert first[0] not in it.full(3)
        for job in jobs:
            (shop / f"{job}.go").touch()
        until(lambda: processed(clean) == 15, "the end of all jobs", 60)
        assert Counter(name for name, _ in done(shop)) == Counter(jobs)
        it.send(signal.SIGTERM)
        assert it.ends() == 0
        assert nothing_held(clean)


@pytest.mark.slow
def test_a_rolling_restart_under_load_runs_each_job_once(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 3) as it:
        old = it.workers()
        fewest = 3

        def watched(condition: bool) -> bool:
            nonlocal fewest
            fewest = min(fewest, len(it.workers()))
            return condition

        jobs = names("j", 2000)
        push(clean, "mark", *jobs[:1500])
        until(lambda: processed(clean) > 50, "some jobs")
        it.send(signal.SIGUSR2)
        until(lambda: watched("restarted: all processes are new" in it.err), "new ones", 120)
        push(clean, "mark", *jobs[1500:])
        until(lambda: watched(processed(clean) == 2000), "the end of all jobs", 60)
        new = it.full(3)
        assert not set(old) & set(new)
        assert fewest >= 2
        ended = done(shop)
        assert Counter(name for name, _ in ended) == Counter(jobs)
        assert Counter(name for name, _ in done(shop, "begun")) == Counter(jobs)
        assert {pid for _, pid in ended} == {*old, *new}
        assert handed_over(it.err) == 3
        it.send(signal.SIGTERM)
        assert it.ends() == 0
        assert nothing_held(clean)
        assert clean.cli("ZCARD", "retry") == 0


def handed_over(lines: str) -> int:
    """The fewest workers at any time that were up and not told to stop, from the third on."""
    found = re.findall(r"(is up$|\"process\.stopping\")", lines, re.MULTILINE)
    steps = [1 if what == "is up" else -1 for what in found]
    return min(list(itertools.accumulate(steps))[2:])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_is_one_signal(
    shop: Path, clean: TestServer, number: signal.Signals
) -> None:
    """Ctrl-c and a closed terminal reach every process; systemd sends TERM to every process."""
    with fleet(shop, clean, 2) as it:
        push(clean, "gated", "a", "b")
        began(shop, "a", "b")
        os.killpg(it.pid, number)
        it.says("stopping 2 processes: running jobs get 25 s; a second signal stops them now")
        (shop / "a.go").touch()
        (shop / "b.go").touch()
        assert it.ends() == 0
        assert "stopping now" not in it.err
    assert sorted(name for name, _ in done(shop)) == ["a", "b"]
    assert processed(clean) == 2
    assert nothing_held(clean)


def stopped_now(it: Fleet, again: Callable[[], None]) -> None:
    """Signal again, once: one that comes within a second is the same one."""
    first = time.monotonic()
    until(lambda: time.monotonic() > first + 1.0, "a second to pass")
    again()
    until(lambda: "stopping now" in it.err or not it.alive(), "the second signal", 30)


def test_a_second_term_is_now(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2, "--shutdown-timeout", "500") as it:
        push(clean, "gated", *names("a", 10))
        began(shop, *names("a", 10))
        it.send(signal.SIGTERM)
        it.says("running jobs get 500 s")
        assert len(it.workers()) == 2
        stopped_now(it, lambda: it.send(signal.SIGTERM))
        assert it.ends(30) == 0
        assert "stopping now: running jobs go back to their queues" in it.err
    assert clean.cli("LLEN", QUEUE) == 10
    assert nothing_held(clean)


def test_a_second_ctrl_c_is_now(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2, "--shutdown-timeout", "500") as it:
        push(clean, "gated", "a")
        began(shop, "a")
        it.ctrl_c()
        it.says("running jobs get 500 s")
        stopped_now(it, it.ctrl_c)
        assert it.ends(30) == 0
    assert clean.cli("LLEN", QUEUE) == 1
    assert nothing_held(clean)


def test_what_outlasts_the_grace_goes_back(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2, "--shutdown-timeout", "0.2") as it:
        push(clean, "gated", "a")
        began(shop, "a")
        it.send(signal.SIGTERM)
        assert it.ends() == 0
        assert "running jobs get 0.2 s" in it.err
    assert clean.cli("LLEN", QUEUE) == 1


def test_quiet_holds_until_a_restart(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2) as it:
        push(clean, "gated", *names("a", 6))
        running = began(shop, *names("a", 6))
        it.send(signal.SIGTSTP)
        until(lambda: it.err.count('"process.quiet"') == 2, "two quiet workers", 30)
        assert it.err.count("quiet: no more jobs are claimed") == 1
        push(clean, "mark", "b")
        for name in names("a", 6):
            (shop / f"{name}.go").touch()
        until(lambda: processed(clean) == 6, "the end of what ran")
        os.kill(running[0], signal.SIGKILL)
        it.says("not started again while the fleet is quiet")
        assert clean.cli("LLEN", QUEUE) == 1
        it.send(signal.SIGUSR2)
        until(lambda: processed(clean) == 7, "the end of b", 60)
        assert running[0] not in it.full(2)
        it.send(signal.SIGTERM)
        assert it.ends() == 0


def test_ttin_tells_what_all_do(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2) as it:
        push(clean, "gated", *names("a", 10))
        running = began(shop, *names("a", 10))
        it.send(signal.SIGTTIN)
        for pid in set(running):
            it.says(f"process {pid} has ")
        until(lambda: it.err.count("in gated") >= 10, "all stacks")
        it.send(signal.SIGTERM)
        for name in names("a", 10):
            (shop / f"{name}.go").touch()
        assert it.ends() == 0


def test_without_a_supervisor_the_workers_stop_in_their_own_time(
    shop: Path, clean: TestServer
) -> None:
    with fleet(shop, clean, 2) as it:
        pids = it.workers()
        push(clean, "gated", *names("a", 6))
        assert set(began(shop, *names("a", 6))) == set(pids)
        it.process.kill()
        it.process.wait(10)
        for pid in pids:
            told = f"the supervisor has ended, so worker process {pid} stops too"
            until(lambda told=told: told in it.err, told, 30)
        assert not any(gone(pid) for pid in pids)  # jobs have their grace
        for name in names("a", 6):
            (shop / f"{name}.go").touch()
        until(lambda: all(gone(pid) for pid in pids), "the end of the workers", 30)
    assert sorted(name for name, _ in done(shop)) == names("a", 6)
    assert processed(clean) == 6
    assert nothing_held(clean)


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_is_replaced(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2) as it:
        first, _ = it.workers()
        os.kill(first, signal.SIGTERM)
        it.says(f"worker 1 (pid {first}) ended with exit code 0; starting it again in 1 s")
        it.full(2)
        it.send(signal.SIGTERM)
        assert it.ends() == 0


BROKEN = {
    "a module that can't be imported": ("raise KeyError('planted')", 1, "KeyError: 'planted'"),
    "no app": ("x = 1", 1, "shop holds no App"),
    "a crash": ("import os; os.kill(os.getpid(), 9)", 137, "was killed by SIGKILL"),
    "a way out": ("import os; os._exit(3)", 3, "ended with exit code 3"),
}


@pytest.mark.parametrize(("text", "code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_app_is_one_message_and_its_exit_code(
    shop: Path, text: str, code: int, said: str
) -> None:
    (shop / "shop.py").write_text(text)
    got, out, err = kiqpy(shop, "run", "shop", "--processes", "3")
    assert got == code
    assert out == ""
    assert err.count("\n") == 1, err
    assert said in err


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (1, "check that the server is up", ("--redis", "redis://127.0.0.1:1/0")),
        (1, "1 or more", ("-q", "default:0")),
        (2, "--processes", ("--processes", "0")),
        (2, "--max-memory", ("--max-memory", "lots")),
    ],
)
def test_a_wrong_option_is_one_message(
    shop: Path, code: int, said: str, words: tuple[str, ...]
) -> None:
    got, _, err = kiqpy(shop, "run", "shop", "--processes", "3", *words)
    assert got == code
    assert err.count("\n") == 1, err
    assert said in err


def test_a_broken_release_does_not_replace_what_works(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2) as it:
        old = it.workers()
        (shop / "shop.py").write_text("raise KeyError('planted')")
        it.send(signal.SIGUSR2)
        it.says("before it was up: worker 1")
        assert "no other worker is replaced" in it.err
        push(clean, "mark", "a")
        until(lambda: processed(clean) == 1, "a job by an old one")
        assert it.workers() == old
        it.send(signal.SIGTERM)
        assert it.ends() == 0


@pytest.mark.slow
def test_one_that_has_too_much_is_replaced(shop: Path, clean: TestServer) -> None:
    with fleet(shop, clean, 2, "--max-memory", "120") as it:
        old = it.workers()
        push(clean, "eat", "a")
        it.says("MB, more than 120: replacing it")
        [fat] = {pid for _, pid in done(shop)}
        assert f"(pid {fat}) has" in it.err
        until(lambda: gone(fat), "the end of the fat one", 30)
        assert set(it.full(2)) & set(old) == set(old) - {fat}
        push(clean, "mark", *names("b", 20))
        until(lambda: processed(clean) == 21, "the end of all jobs")
        it.send(signal.SIGTERM)
        assert it.ends() == 0
        assert it.err.count("replacing it") == 1


def test_all_options_may_stand_in_the_environment(shop: Path, clean: TestServer) -> None:
    (shop / "pyproject.toml").write_text('[tool.kiqpy]\napp = "shop:Jobs"\n')
    variables = {
        "KIQPY_REDIS_URL": clean.url, "KIQPY_PROCESSES": "2", "KIQPY_QUEUES": "mail:2",
        "KIQPY_LOG_LEVEL": "error", "KIQPY_UVLOOP": "off",
    }  # fmt: skip
    with Fleet(shop, "run", **variables) as it:
        assert len(it.full(2)) == 2
        assert ", asyncio, 2 processes, pid" in it.err
        assert "queues   mail 2" in it.err
        assert "process.started" not in it.err
        it.send(signal.SIGTERM)
        assert it.ends() == 0


def test_a_module_of_the_folder_hides_none_of_the_library(shop: Path) -> None:
    """As with one process: the folder comes first only when the app is looked for."""
    (shop / "queue.py").write_text("raise KeyError('hidden')")
    script = shop / "bin" / "kiqpy"
    script.parent.mkdir()
    script.write_text("import sys\nfrom kiqpy.cli import main\nsys.exit(main())\n")
    ended = subprocess.run(
        [sys.executable, script, "run", "shop", "--processes", "2", "-q", "default:0"],
        cwd=shop, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "1 or more" in ended.stderr


@pytest.fixture
def alone(shop: Path) -> Iterator[Fleet]:
    with Fleet(shop, "run", "shop", "--processes", "2") as it:
        yield it


def test_without_a_url_all_share_one_server(shop: Path, alone: Fleet) -> None:
    pids = alone.full(2)
    assert f"embedded, in {shop / '.kiqpy'}" in alone.err
    code, out, err = kiqpy(shop, "workers", "--json", KIQPY_APP="shop")
    assert code == 0, err
    idents = [process["ident"] for process in json.loads(out)["processes"]]
    assert sorted(int(ident.split(":")[1]) for ident in idents) == sorted(pids)
    os.kill(pids[0], signal.SIGKILL)  # the one that has started the server
    alone.says("starting it again")
    assert pids[1] in alone.full(2)
    alone.send(signal.SIGTERM)
    assert alone.ends() == 0
