"""`kiqpy run` with real processes: signals, exit codes, one-line errors."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.cli.process import Kiqpy, kiqpy
from tests.server import TestServer, until

SHOP = """
import asyncio, pathlib, time
from kiqpy import App, worker

def path(name):
    return pathlib.Path(__file__).with_name(name)

@worker
async def gated(name: str) -> None:
    path(name + ".began").touch()
    while not path(name + ".go").exists():
        await asyncio.sleep(0.01)
    path(name + ".done").touch()

@worker(executor="process")
def apart(name: str) -> None:
    path(name + ".began").touch()
    while not path(name + ".go").exists():
        time.sleep(0.01)
    path(name + ".done").touch()

@worker(executor="thread")
def stuck(name: str) -> None:
    path(name + ".began").touch()
    while True:
        time.sleep(0.01)

class Jobs(App):
    queues = {"default": 1, "mail": 3}
    workers = [gated, apart, stuck]

jobs = Jobs()
"""
QUEUE = "queue:default"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def push(server: TestServer, name: str, jid: str) -> None:
    payload = {"class": name, "args": [jid], "queue": "default", "jid": jid, "retry": True}
    server.cli("SADD", "queues", "default")
    server.cli("LPUSH", QUEUE, json.dumps(payload))


def in_queue(server: TestServer) -> list[str]:
    """The jids of the queue, next one first."""
    found = server.cli("LRANGE", QUEUE, 0, -1)
    assert isinstance(found, list)
    return [json.loads(str(raw))["jid"] for raw in reversed(found)]


def run(folder: Path, server: TestServer, *words: str) -> Kiqpy:
    return Kiqpy(folder, "run", "shop", "--redis", server.url, *words)


def began(folder: Path, name: str) -> None:
    until((folder / f"{name}.began").exists, f"the start of {name}", 30)


def test_the_banner_says_what_runs_where(shop: Path, clean: TestServer) -> None:
    with run(shop, clean, "-q", "default:4", "-q", "mail", "-q", "more", "-c", "7") as worker:
        worker.says("ctrl-c to stop")
        assert clean.url in worker.err
        assert "queues   default 4, mail 7, more 7" in worker.err
        assert "workers  gated, apart, stuck" in worker.err
        assert f"pid {worker.pid}" in worker.err
        worker.send(signal.SIGINT)
        assert worker.ends() == 0


def test_the_banner_names_the_periodics(shop: Path, clean: TestServer) -> None:
    said = 'periodics = [Periodic("0 9 1 1 *", gated, args=["x"]), REST]'
    rest = 'REST = Periodic("@daily", gated, args=["y"], name="rest")\n\nclass Jobs'
    text = SHOP.replace("import App", "import App, Periodic").replace("class Jobs", rest)
    (shop / "shop.py").write_text(text.replace("    workers =", f"    {said}\n    workers ="))
    with run(shop, clean) as worker:
        worker.says("ctrl-c to stop")
        assert "  periodic gated 0 9 1 1 *, rest @daily\n" in worker.err
        worker.send(signal.SIGINT)
        assert worker.ends() == 0


def test_term_lets_a_running_job_finish(shop: Path, clean: TestServer) -> None:
    with run(shop, clean) as worker:
        push(clean, "gated", "a")
        push(clean, "gated", "b")
        began(shop, "a")
        worker.send(signal.SIGTERM)
        worker.says("stopping: running jobs get 25 s")
        assert worker.alive()
        (shop / "a.go").touch()
        assert worker.ends() == 0
    assert (shop / "a.done").exists()
    assert not (shop / "b.began").exists()
    assert in_queue(clean) == ["b"]
    assert clean.cli("GET", "stat:processed") == "1"


def test_what_outlasts_the_grace_goes_back_to_the_head(shop: Path, clean: TestServer) -> None:
    with run(shop, clean, "--shutdown-timeout", "0.2") as worker:
        push(clean, "gated", "a")
        push(clean, "gated", "b")
        began(shop, "a")
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    assert in_queue(clean) == ["a", "b"]
    assert clean.cli("ZCARD", "retry") == 0
    assert "retry_count" not in str(clean.cli("LINDEX", QUEUE, -1))


def test_a_second_term_is_now(shop: Path, clean: TestServer) -> None:
    with run(shop, clean, "--shutdown-timeout", "500") as worker:
        push(clean, "gated", "a")
        began(shop, "a")
        worker.send(signal.SIGTERM)
        worker.says("a second signal stops them now")
        first = time.monotonic()  # what comes within a second of it is the same signal
        until(lambda: time.monotonic() > first + 1.0, "a second to pass")
        worker.send(signal.SIGTERM)
        assert worker.ends(15) == 0
    assert in_queue(clean) == ["a"]


def test_tstp_claims_no_more_and_lets_jobs_end(shop: Path, clean: TestServer) -> None:
    with run(shop, clean) as worker:
        push(clean, "gated", "a")
        began(shop, "a")
        worker.send(signal.SIGTSTP)
        worker.says("process.quiet")
        push(clean, "gated", "b")
        (shop / "a.go").touch()
        until(lambda: clean.cli("GET", "stat:processed") == "1", "the end of a")
        assert worker.alive()
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    assert in_queue(clean) == ["b"]


def test_ttin_tells_what_it_does_and_goes_on(shop: Path, clean: TestServer) -> None:
    with run(shop, clean) as worker:
        push(clean, "gated", "a")
        began(shop, "a")
        worker.send(signal.SIGTTIN)
        worker.says("most recent call first")
        assert "in gated" in worker.err
        (shop / "a.go").touch()
        until((shop / "a.done").exists, "the end of a")
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0


def test_ctrl_c_is_not_for_the_children(shop: Path, clean: TestServer) -> None:
    """A terminal sends it to the whole group; a job in a child has its grace all the same."""
    with run(shop, clean) as worker:
        push(clean, "apart", "a")
        began(shop, "a")
        worker.ctrl_c()
        worker.says("stopping:")
        (shop / "a.go").touch()
        assert worker.ends() == 0
    assert (shop / "a.done").exists()
    assert clean.cli("GET", "stat:processed") == "1"
    assert clean.cli("ZCARD", "retry") == 0


def test_a_thread_that_never_ends_does_not_keep_it(shop: Path, clean: TestServer) -> None:
    with run(shop, clean, "--shutdown-timeout", "0.1") as worker:
        push(clean, "stuck", "a")
        began(shop, "a")
        worker.send(signal.SIGTERM)
        assert worker.ends(25) == 75
        assert "jobs that can't be interrupted still run" in worker.err
    assert in_queue(clean) == ["a"]


def test_a_stage_that_breaks_for_good_is_70(shop: Path, clean: TestServer) -> None:
    (shop / "broken.py").write_text("""
from kiqpy._stages.producer import Producer
from shop import jobs

async def run(self, inlet, outlet):
    raise RuntimeError("planted")

Producer.run = run
""")
    code, _, err = kiqpy(shop, "run", "broken:jobs", "--redis", clean.url)
    assert code == 70
    assert err.rstrip().splitlines()[-1].startswith("kiqpy: a defect in kiqpy stopped the app: ")
    assert "planted" in err


EXITS = """
import asyncio, sys
from kiqpy import App, worker

async def leave(how):
    if how == "exit":
        sys.exit(2)
    raise KeyboardInterrupt

def child(how):
    return asyncio.create_task(leave(how))

@worker(retry=3)
async def awaits(how: str) -> None:
    await child(how)

@worker(retry=3)
async def gathers(how: str) -> None:
    await asyncio.gather(child(how), asyncio.sleep(0))

@worker(retry=3)
async def groups(how: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave(how))
        await asyncio.sleep(3600)

@worker
async def forgets(how: str) -> None:
    held.append(child(how))

@worker
async def calls(how: str) -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 2)

held = []

class Jobs(App):
    workers = [awaits, gathers, groups, forgets, calls]
"""


@pytest.mark.parametrize("loop", ["on", "off"])
def test_a_job_whose_child_task_exits_does_not_end_the_worker(
    tmp_path: Path, clean: TestServer, loop: str
) -> None:
    (tmp_path / "shop.py").write_text(EXITS)
    fail = ["awaits", "gathers", "groups"]
    with run(tmp_path, clean, "--uvloop", loop) as worker:
        for how in ("exit", "interrupt"):
            for name in [*fail, "forgets", "calls"]:
                payload = {"class": name, "args": [how], "jid": f"{name}-{how}"}
                clean.cli("LPUSH", QUEUE, json.dumps({**payload, "queue": "default", "retry": 3}))
        until(lambda: clean.cli("GET", "stat:processed") == "10", "all jobs", 30)
        # uvloop raises only the last of those that one turn of the loop brings
        least = 10 if loop == "off" else 1
        until(lambda: worker.err.count("the worker goes on") >= least, "the exits to be told", 30)
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    found = clean.cli("ZRANGE", "retry", 0, -1)
    assert isinstance(found, list)
    kept = {job["jid"]: job["error_class"] for job in map(json.loads, map(str, found))}
    exits = {f"{name}-exit": "SystemExit" for name in fail}
    assert kept == exits | {f"{name}-interrupt": "KeyboardInterrupt" for name in fail}
    assert all(f'"{jid}"' in worker.err for jid in kept)
    if loop == "off":
        assert f" was raised in a task or callback, in leave() at {tmp_path}" in worker.err


FORKS = """
import asyncio, multiprocessing, os, pathlib, signal, subprocess, sys, time
from kiqpy import App, worker

fork = multiprocessing.get_context("fork")

def wait(ready):
    ready.set()
    time.sleep(60)

def forked():
    ready = fork.Event()
    child = fork.Process(target=wait, args=(ready,))
    child.start()
    ready.wait()
    return child.pid, child.join, lambda: child.exitcode

def raw():
    ends, says = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(says, b"1")
            time.sleep(60)
        finally:
            os._exit(1)
    os.read(ends, 1)
    codes = []
    def join():
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return pid, join, lambda: codes[0]

def with_preexec():
    code = "import time; print(1, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    child = subprocess.Popen(command, preexec_fn=os.getpid, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child.pid, child.wait, lambda: child.returncode

def end_child(start: str, number: int) -> None:
    pid, join, code = globals()[start]()
    os.kill(pid, number)
    if number == signal.SIGTSTP:  # which is ignored here: nobody could continue the group
        os.kill(pid, signal.SIGKILL)
    join()
    with pathlib.Path(__file__).with_name("codes").open("a") as file:
        print(start, number, code(), file=file)

@worker
async def in_loop(start: str, number: int) -> None:
    end_child(start, number)

@worker
def in_thread(start: str, number: int) -> None:
    end_child(start, number)

class Jobs(App):
    queues = {"default": 1}
    workers = [in_loop, in_thread]
"""
# A KeyboardInterrupt in Python code; -2 is SIGINT itself.
_ENDS = {signal.SIGTERM: {-15}, signal.SIGINT: {1, -2}, signal.SIGTSTP: {-9}}


@pytest.mark.parametrize("name", ["in_loop", "in_thread"])
@pytest.mark.parametrize("start", ["forked", "raw", "with_preexec"])
def test_what_signals_a_jobs_child_does_not_reach_the_worker(
    tmp_path: Path, clean: TestServer, name: str, start: str
) -> None:
    """The child had the worker's handlers and its wake-up descriptor: the worker stopped."""
    (tmp_path / "shop.py").write_text(FORKS)
    with run(tmp_path, clean) as worker:
        for number in _ENDS:
            job = {"class": name, "args": [start, int(number)], "jid": number.name, "retry": 0}
            clean.cli("LPUSH", QUEUE, json.dumps({**job, "queue": "default"}))
        until(lambda: clean.cli("GET", "stat:processed") == "3", "all jobs", 30)
        assert worker.alive()
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    ended = [line.split() for line in (tmp_path / "codes").read_text().splitlines()]
    assert [(kind, int(number)) for kind, number, _ in ended] == [(start, n) for n in _ENDS]
    for _, number, code in ended:
        assert int(code) in _ENDS[signal.Signals(int(number))]
    assert "process.quiet" not in worker.err


def test_an_exit_at_the_start_is_the_processs_own(shop: Path, clean: TestServer) -> None:
    text = SHOP.replace("    workers", "    redis_url = leave\n    workers")
    leave = "\nasync def leave():\n    raise SystemExit(3)\n\nclass Jobs"
    (shop / "shop.py").write_text(text.replace("\nclass Jobs", leave))
    with Kiqpy(shop, "run", "shop") as worker:
        assert worker.ends() == 3
        assert "goes on" not in worker.err


def test_the_app_may_be_named_in_pyproject_and_all_options_in_the_environment(
    shop: Path, clean: TestServer
) -> None:
    (shop / "pyproject.toml").write_text('[tool.kiqpy]\napp = "shop:Jobs"\n')
    variables = {
        "KIQPY_REDIS_URL": clean.url, "KIQPY_QUEUES": "mail:2 default", "KIQPY_CONCURRENCY": "9",
        "KIQPY_SHUTDOWN_TIMEOUT": "3", "KIQPY_LOG_FORMAT": "console", "KIQPY_LOG_LEVEL": "error",
        "KIQPY_UVLOOP": "off",
    }  # fmt: skip
    with Kiqpy(shop, "run", **variables) as worker:
        worker.says("ctrl-c to stop")
        assert clean.url in worker.err
        assert "queues   mail 2, default 9" in worker.err
        assert ", asyncio, " in worker.err
        worker.send(signal.SIGTERM)
        worker.says("running jobs get 3 s")
        assert worker.ends() == 0
        assert "process.stopped" not in worker.err


def test_lines_are_json_where_nobody_watches(shop: Path, clean: TestServer) -> None:
    with run(shop, clean) as worker:
        push(clean, "gated", "a")
        began(shop, "a")
        (shop / "a.go").touch()
        until(lambda: "job.success" in worker.err, "the job's line")
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
        lines = [json.loads(line) for line in worker.err.splitlines() if line.startswith("{")]
    [done] = [line for line in lines if line["event"] == "job.success"]
    assert done["jid"] == "a"
    assert done["class"] == "gated"
    assert done["level"] == "info"
    assert {line["event"] for line in lines} >= {"process.started", "process.stopped"}


NOWHERE = ("--redis", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (1, "there is no module 'shpo'", ("run", "shpo")),
        (1, "did you mean 'shop'?", ("run", "shpo")),
        (1, "shop has no 'jbos'; did you mean 'jobs'?", ("run", "shop:jbos")),
        (1, "which app?", ("run",)),
        (1, "must begin with redis://", ("run", "shop", "--redis", "http://localhost")),
        (1, "127.0.0.1:1/0 gave no answer", ("run", "shop", *NOWHERE)),
        (1, "check that the server is up", ("run", "shop", *NOWHERE)),
        (1, "did you mean 5?", ("run", "shop", "--shutdown-timeout", "5000")),
        (1, "1 or more", ("run", "shop", "-q", "default:0")),
        (1, "queue name 'a b'", ("run", "shop", "-q", "a b")),
        (2, "Did you mean '--queue'?", ("run", "shop", "--quue", "default")),
        (2, "did you mean 'run'?", ("rnu", "shop")),
        (2, "--concurrency", ("run", "shop", "-c", "none")),
        (2, "--log-level", ("run", "shop", "--log-level", "loud")),
    ],
)
def test_an_error_is_one_line(shop: Path, code: int, said: str, words: tuple[str, ...]) -> None:
    got, out, err = kiqpy(shop, *words)
    assert got == code
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("kiqpy: ")
    assert said in err


def test_a_wrong_password_is_named_but_not_shown(shop: Path) -> None:
    with TestServer(tcp=True) as server:
        server.cli("CONFIG", "SET", "requirepass", "sesame")
        for userinfo in (":open-up@", ""):
            url = server.url.replace("//", f"//{userinfo}")
            code, _, err = kiqpy(shop, "run", "shop", "--redis", url)
            assert code == 1
            assert err.count("\n") == 1, err
            assert "password" in err
            assert "check the URL" in err
            assert "open-up" not in err


def test_the_banner_hides_the_password(shop: Path) -> None:
    with TestServer(tcp=True) as server:
        server.cli("CONFIG", "SET", "requirepass", "sesame")
        url = server.url.replace("//", "//:sesame@")
        with Kiqpy(shop, "run", "shop", "--redis", url) as worker:
            worker.says("ctrl-c to stop")
            assert f"redis    redis://:***@127.0.0.1:{server.port}/0" in worker.err
            worker.send(signal.SIGTERM)
            assert worker.ends() == 0
            assert "sesame" not in worker.err


def test_without_a_url_it_has_a_server_of_its_own(shop: Path) -> None:
    with Kiqpy(shop, "run", "shop") as worker:
        worker.says("ctrl-c to stop")
        assert f"embedded, in {shop / '.kiqpy'}" in worker.err
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0


def test_without_a_command_it_shows_what_there_is(tmp_path: Path) -> None:
    code, out, err = kiqpy(tmp_path)
    assert (code, err) == (0, "")
    assert "demo" in out
    assert "run" in out
