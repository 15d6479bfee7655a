"""Jobs in child processes: their errors, results, words and programs; the end of either side."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

from kiqpy._rules.stack import backtrace, place
from kiqpy.errors import BrokenChild
from kiqpy.outcome import SUCCESS, Failure, Success
from tests.server import TestServer, until
from tests.stages import children
from tests.stages.harness import World, outcome_of, payload, performer

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
WORKERS = [
    *(children.unpicklable, children.raises_hard, children.raises_locked, children.lists_generator),
    *(children.wraps_async, children.runs_programs, children.is_signalled, children.logs),
    children.pid,
]


async def run(name: str) -> Any:
    world = World()
    return await outcome_of(world, performer(world, *WORKERS), payload(name))


# -- errors and results


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [("raises_hard", "Hard", "hard"), ("raises_locked", "Locked", "no pickle of this")],
)
async def test_an_error_that_cant_be_rebuilt_keeps_its_class_name_words_andbacktrace(
    name: str, kind: str, words: str
) -> None:
    error = (await run(name)).error
    assert (type(error).__qualname__, str(error)) == (kind, words)
    assert type(error).__module__ == children.__name__
    assert f"in {name}" in str(error.__cause__)
    assert place(error).endswith(f" in {name}")
    assert backtrace(error, keep=True)[0].endswith(f"in `{name}'")


async def test_a_result_that_cant_be_sent_fails_no_job(caplog: pytest.LogCaptureFixture) -> None:
    assert await run("unpicklable") == SUCCESS
    assert "what a job returned is dropped, it can't be pickled" in caplog.text


async def test_what_a_plain_function_returns_is_awaited_in_the_child() -> None:
    assert await run("wraps_async") == Success(7)
    assert "whose body nobody runs" in str((await run("lists_generator")).error)


def script(*args: str, name: str = "child_script") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "stages" / f"{name}.py", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_an_error_of_main_is_an_instance_of_its_class() -> None:
    program = script("fails")
    said, complained = program.communicate(timeout=120)
    assert said.splitlines()[0] == "True (7, 'from main')", complained
    assert said.splitlines()[1].endswith("in `fails'")


# -- what a job says, and the programs that it starts


async def test_a_job_may_write_to_every_descriptor_and_start_programs() -> None:
    assert await run("runs_programs") == Success(("hi\n", 0))


def test_what_a_job_prints_warns_and_logs_reaches_the_parent() -> None:
    said, complained = script("speaks").communicate(timeout=120)
    assert said == "printed\n"
    assert "UserWarning: warned" in complained
    assert complained.count("parent: logged") == 1
    assert "parent: raised\nValueError: in the child" in complained


async def test_the_parent_decides_which_log_records_are_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("shop.mail")
    with caplog.at_level("INFO", logger="shop.mail"):
        await run("logs")
    assert [(r.name, r.getMessage(), getattr(r, "to", "")) for r in caplog.records] == [
        (logger.name, "sent to ann", "ann")
    ]


# -- the end of a child, and of its parent


async def test_signals_of_the_group_end_no_child_and_are_not_ignored_by_its_programs() -> None:
    assert await run("is_signalled") == Success("True")


def test_a_child_ends_when_its_parent_was_killed() -> None:
    """It ran on, beside the same job that another process had rescued."""
    program = script("orphan")
    assert program.stdout is not None
    child = int(program.stdout.readline())
    program.communicate("go\n", timeout=60)
    assert program.returncode == -signal.SIGKILL
    until(lambda: not _runs(child), "the child's end", 20)


def test_a_program_that_forgets_its_child_ends() -> None:
    program = script("forgotten")
    assert program.stdout is not None
    child = int(program.stdout.readline())
    program.communicate(timeout=60)
    until(lambda: not _runs(child), "the child's end", 20)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("seen", [0, 1])
async def test_no_task_of_the_loop_is_born_in_a_job(seen: int) -> None:
    """The pool's own task was taken for one that the first job had leaked, and all children died.

    `seen`: in a fresh loop, and in one where a process job has run.
    """
    world = World()
    perform = performer(world, *WORKERS)
    for _ in range(seen):
        await outcome_of(world, perform, payload("pid"))
    before = asyncio.all_tasks()
    assert isinstance(await outcome_of(world, perform, payload("pid")), Success)
    assert asyncio.all_tasks() <= before


def test_a_script_without_a_main_guard_is_refused_and_told_how(clean: TestServer) -> None:
    """Each child ran the script again, and so started children of its own, silently, for ever."""
    program = script(clean.url, name="unguarded_script")
    said, complained = program.communicate(timeout=120)
    assert 'what the script does must be below `if __name__ == "__main__":`' in said
    assert "LifecycleError: kiqpy.app.App is started while a child process imports" in complained


async def test_a_child_that_cant_start_fails_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "get_executable", lambda: b"/bin/false")
    outcome = await run("pid")
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, BrokenChild)
