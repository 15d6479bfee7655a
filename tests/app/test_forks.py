"""An app in a process that forks: gunicorn --preload, multiprocessing, os.fork in a script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import TestServer

ROOT = Path(__file__).parents[2]
HEAD = """
import asyncio, multiprocessing, os, sys, threading
from kiqpy import App, LifecycleError, worker

@worker
async def mail(n: int) -> None: ...

jobs = App(redis_url={url!r}, workers=[mail], server=False)

def on_a_thread(do):
    thread = threading.Thread(target=do)
    thread.start()
    thread.join()

def sync():
    print(jobs.enqueue_sync(mail.new(2), timeout=20).state)

def nowait():
    try:
        jobs.enqueue_nowait(mail.new(3))
    except LifecycleError as error:
        print(error)
"""

SCRIPT = """
def in_child(do):  # as gunicorn --preload does it
    if pid := os.fork():
        print("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        return
    do()
    sys.exit(7)

jobs.enqueue_sync(mail.new(1))
in_child({do})
jobs.enqueue_sync(mail.new(4))
"""

SERVICE = """
def in_child(do):
    def run():
        do()
        sys.exit(7)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    print("exit", child.exitcode, flush=True)

async def main():
    async with jobs:
        await jobs.enqueue(mail.new(1))
        in_child({do})
        await jobs.enqueue(mail.new(4))
asyncio.run(main())
"""


def ran(program: str, url: str, do: str) -> list[str]:
    code = HEAD.format(url=url) + program.format(do=do)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("program", [SCRIPT, SERVICE], ids=["script", "service"])
@pytest.mark.parametrize("do", ["sync", "lambda: on_a_thread(sync)"])
def test_a_forked_child_starts_anew_and_ends(clean: TestServer, program: str, do: str) -> None:
    """enqueue_sync waited for ever for a thread that only the parent has, and so did the exit."""
    assert ran(program, clean.url, do) == ["queued", "exit 7"]
    assert clean.cli("LLEN", "queue:default") == 3


@pytest.mark.parametrize("program", [SCRIPT, SERVICE], ids=["script", "service"])
@pytest.mark.parametrize("do", ["nowait", "lambda: on_a_thread(nowait)", "lambda: None"])
def test_a_forked_child_is_told_at_once_and_ends(clean: TestServer, program: str, do: str) -> None:
    said = ran(program, clean.url, do)
    assert said.pop() == "exit 7"
    assert all("was started before this process was forked" in line for line in said)
    assert len(said) == ("nowait" in do)
    assert clean.cli("LLEN", "queue:default") == 2


CHILDREN = """
import asyncio, atexit, multiprocessing, os, sys
from kiqpy import App
from tests.stages.children import pid

async def main(url):
    jobs = App(redis_url=url, workers=[pid], processes=1)
    async with jobs, jobs.events("job.success", "job.failure") as ended:
        await jobs.enqueue(pid.new())
        await anext(ended)
        before = [each.pid for each in multiprocessing.active_children()]
        if (child := os.fork()) == 0:
            atexit._run_exitfuncs()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(before == [each.pid for each in multiprocessing.active_children()] != [])

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def test_a_forked_child_that_exits_kills_no_child_process_of_its_parent(
    clean: TestServer, tmp_path: Path
) -> None:
    script = tmp_path / "forks.py"
    script.write_text(CHILDREN)
    command = [sys.executable, str(script), clean.url]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.stdout.split() == ["7", "True"], done.stderr
