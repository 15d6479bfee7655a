"""Performing one job: whatever it is and does becomes an outcome."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from kiqpy import Discard, Job, Kill, Snooze, Worker, current_job, worker
from kiqpy._rules.decide import Rules
from kiqpy.errors import DecodeError, UnknownWorker
from kiqpy.outcome import RELEASED, SUCCESS, Aborted, Failure, Snoozed, Success
from kiqpy.testing import rest
from tests.server import until
from tests.stages import children
from tests.stages.harness import World, outcome_of, payload, performer, settlement_of, start

pytestmark = pytest.mark.anyio


@worker
async def send_welcome(*args: Any) -> None: ...


@worker(retry=3, dead=False, backoff="constant")
async def strict(a: int, b: int) -> int:
    return a + b


@worker
async def keyed(a: int, *, b: int = 1, c: int = 2) -> tuple[int, int, int]:
    return a, b, c


@worker
async def open_ended(*args: int, **named: int) -> tuple[tuple[int, ...], dict[str, int]]:
    return args, named


@worker
async def signals(which: str, how: str) -> Any:
    signal = {"snooze": Snooze(7), "discard": Discard("why"), "kill": Kill("now")}[which]
    if how == "raise":
        raise signal
    return signal


@worker
async def which_job() -> Job:
    return current_job()


class Export(Worker):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    async def perform(self, n: int) -> tuple[str, int]:
        return self.job.jid, n


ASYNC = [send_welcome, strict, keyed, open_ended, signals, which_job, Export]


async def run(raw: bytes, **changes: Any) -> Any:
    world = World()
    return await outcome_of(world, performer(world, *ASYNC, **changes), raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"args": []}', "no class name"),
        (b'{"class": "noop", "args": {}}', "args is not an array"),
        (b"[" * 100_000, "not JSON"),
    ],
)
async def test_bytes_that_are_no_job_fail_for_good(raw: bytes, reason: str) -> None:
    world = World()
    settlement = await settlement_of(world, performer(world), raw)
    assert settlement.job is None
    assert isinstance(settlement.outcome, Failure)
    assert settlement.outcome.final
    assert isinstance(settlement.outcome.error, DecodeError)
    assert reason in str(settlement.outcome.error)


async def test_an_unknown_class_fails_with_the_nearest_name_and_is_retried() -> None:
    outcome = await run(payload("send_welcom"))
    assert isinstance(outcome.error, UnknownWorker)
    assert "no worker is called 'send_welcom'; did you mean 'send_welcome'?" in str(outcome.error)
    assert not outcome.final


async def test_a_name_from_redis_is_never_imported() -> None:
    outcome = await run(payload("os.system", "true"))
    assert isinstance(outcome.error, UnknownWorker)


async def test_an_expired_job_is_not_run() -> None:
    world = World()
    perform = performer(world, send_welcome)
    now = world.clock.now()
    assert await outcome_of(world, perform, payload("send_welcome", expires_at=now)) == Aborted(
        "expired"
    )
    assert await outcome_of(world, perform, payload("send_welcome", expires_at=now + 1)) == SUCCESS
    late_ms = int((now - 1) * 1000)
    assert await outcome_of(world, perform, payload("send_welcome", expires_at=late_ms)) == Aborted(
        "expired"
    )


@pytest.mark.parametrize("how", ["raise", "return"])
@pytest.mark.parametrize(
    ("which", "expected"), [("snooze", Snoozed(7.0)), ("discard", Aborted("why"))]
)
async def test_signals_mean_the_same_raised_and_returned(
    which: str, how: str, expected: object
) -> None:
    assert await run(payload("signals", which, how)) == expected


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_kill_is_a_failure_for_good(how: str) -> None:
    outcome = await run(payload("signals", "kill", how))
    assert isinstance(outcome, Failure)
    assert outcome.final
    assert repr(outcome.error) == "Kill('now')"


async def test_arguments_that_do_not_fit_are_the_jobs_failure() -> None:
    outcome = await run(payload("strict", 1))
    assert isinstance(outcome.error, TypeError)
    assert "'b'" in str(outcome.error)


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("strict", [1, 2], 3),
        ("keyed", [1, {}], (1, 1, 2)),
        ("keyed", [1, {"c": 9}], (1, 1, 9)),
        ("keyed", [1], (1, 1, 2)),
        ("open_ended", [1, 2, {"x": 3}], ((1, 2), {"x": 3})),
        ("open_ended", [1, 2], ((1, 2), {})),
    ],
)
async def test_keywords_travel_as_the_last_object(
    name: str, args: list[object], result: object
) -> None:
    assert await run(payload(name, *args)) == Success(result)


async def test_a_last_object_with_other_keys_is_an_argument() -> None:
    outcome = await run(payload("keyed", {"unknown": 1}))
    assert outcome == Success(({"unknown": 1}, 1, 2))


async def test_what_new_makes_is_called_as_it_was_meant() -> None:
    job = keyed.new(1, b=5)
    assert job.args == [1, {"b": 5}]
    assert await run(payload("keyed", *job.args)) == Success((1, 5, 2))


async def test_each_job_gets_an_instance_that_knows_it() -> None:
    before = Export.made
    assert await run(payload("Export", 1, jid="a")) == Success(("a", 1))
    assert await run(payload("Export", 2, jid="b")) == Success(("b", 2))
    assert Export.made == before + 2


async def test_the_current_job_is_known_inside_and_not_outside() -> None:
    outcome = await run(payload("which_job", jid="abc"))
    assert outcome.result.jid == "abc"
    with pytest.raises(LookupError):
        current_job()


async def test_rules_come_from_the_worker_then_from_the_app() -> None:
    world = World()
    perform = performer(world, *ASYNC, rules=Rules(retry=7, dead=True, backoff="exq"))
    own = await settlement_of(world, perform, payload("strict", 1, 2))
    apps = await settlement_of(world, perform, payload("send_welcome"))
    assert own.rules == Rules(3, False, "constant")
    assert apps.rules == Rules(7, True, "exq")


async def test_how_long_it_took_and_waited_is_measured() -> None:
    world = World()
    gate = asyncio.Event()

    @worker
    async def slow() -> None:
        await gate.wait()

    raw = payload("slow", enqueued_at=world.clock.now() - 5)
    _, task = start(world, performer(world, slow), raw)
    await world.clock.advance(3)
    gate.set()
    settlement = await task
    assert settlement.took_s == 3.0
    assert settlement.waited_s() == 5.0


async def test_who_wants_to_hear_of_starts_hears_before_the_body() -> None:
    world = World()
    heard: list[int] = []
    world.bus.attach("job.started", lambda _event: heard.append(Export.made))

    await outcome_of(world, performer(world, Export), payload("Export", 1))
    assert heard == [Export.made - 1]


# -- threads

trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")
thread_gate = threading.Event()


@worker
def in_thread(n: int, *, m: int = 0) -> tuple[bool, int, str, str]:
    name = trace.get()
    trace.set("changed in the thread")
    return threading.current_thread() is threading.main_thread(), n + m, current_job().jid, name


@worker(timeout=1)
def stuck_thread() -> str:
    thread_gate.wait(30)
    return "late"


@worker
def thread_raises(name: str) -> None:
    raise {
        "exit": SystemExit(2), "interrupt": KeyboardInterrupt(), "value": ValueError(),
        "stop": StopIteration(),
    }[name]  # fmt: skip


class SyncExport(Worker):
    def perform(self) -> str:
        return self.job.jid


async def test_plain_functions_run_in_threads_with_the_jobs_context() -> None:
    world = World()
    token = trace.set("outside")
    outcome = await outcome_of(
        world, performer(world, in_thread), payload("in_thread", 1, {"m": 2})
    )
    assert outcome == Success((False, 3, "j", "outside"))
    assert trace.get() == "outside"
    trace.reset(token)


async def test_a_plain_method_knows_its_job() -> None:
    world = World()
    outcome = await outcome_of(world, performer(world, SyncExport), payload("SyncExport"))
    assert outcome == Success("j")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("exit", SystemExit), ("interrupt", KeyboardInterrupt), ("value", ValueError)),
        ("stop", RuntimeError),  # no coroutine raises StopIteration, no future takes it
    ],
)
async def test_what_a_thread_raises_is_the_jobs_failure(
    name: str, kind: type[BaseException]
) -> None:
    """A plain function that called sys.exit() ended the whole process."""
    world = World()
    raw = payload("thread_raises", name)
    outcome = await outcome_of(world, performer(world, thread_raises), raw)
    assert isinstance(outcome, Failure)
    assert type(outcome.error) is kind


async def test_a_thread_keeps_its_slot_until_it_ends() -> None:
    world = World()
    thread_gate.clear()
    run, task = start(world, performer(world, stuck_thread), payload("stuck_thread"))
    while run.timer is None:  # noqa: ASYNC110  # turn by turn
        await asyncio.sleep(0)
    await world.clock.advance(2)
    await rest()
    assert run.why == "timeout"
    assert not task.done()
    thread_gate.set()
    assert (await task).outcome == Success("late")


async def test_a_job_that_waits_for_a_thread_is_stopped_at_once() -> None:
    world = World()
    thread_gate.clear()
    perform = performer(world, stuck_thread, threads=1)
    _, first = start(world, perform, payload("stuck_thread"))
    run, second = start(world, perform, payload("stuck_thread", jid="j2"))
    await rest()
    run.cancel("released")
    assert (await second).outcome == RELEASED
    assert not first.done()
    thread_gate.set()
    assert (await first).outcome == Success("late")


# -- child processes

CHILDREN = [
    children.pid, children.dies, children.raises, children.snoozes, children.hangs,
    children.unpicklable, children.raises_hard, children.InClass, children.exits,
]  # fmt: skip


async def test_children_run_jobs_and_their_errors_and_signals_come_back() -> None:
    world = World()
    perform = performer(world, *CHILDREN)

    async def run(name: str, *args: object) -> Any:
        return await outcome_of(world, perform, payload(name, *args))

    (child, total, jid) = (await run("pid", 1, {"extra": 2})).result
    assert child != os.getpid()
    assert (total, jid) == (3, "j")
    failed = await run("raises", "from afar")
    assert repr(failed.error) == "ValueError('from afar')"
    assert type((await run("exits")).error) is SystemExit
    assert await run("snoozes", 4) == Snoozed(4.0)
    assert await run("InClass", 5) == Aborted("j 5")
    assert (await run("pid", 1)).result[1] == 1


async def test_a_killed_child_fails_its_own_job_only() -> None:
    world = World()
    perform = performer(world, *CHILDREN)
    outcomes = await asyncio.gather(
        *(outcome_of(world, perform, payload(name)) for name in ("pid", "dies", "pid"))
    )
    assert [type(outcome) for outcome in outcomes] == [Success, Failure, Success]
    assert repr(outcomes[1].error) == (  # type: ignore[union-attr]
        "BrokenChild('the child process of the job was ended by SIGKILL')"
    )
    assert isinstance(await outcome_of(world, perform, payload("pid")), Success)


async def test_a_timeout_kills_the_child(tmp_path: Path) -> None:
    world = World()
    file = tmp_path / "pid"
    run, task = start(world, performer(world, *CHILDREN), payload("hangs", str(file)))
    await asyncio.to_thread(until, lambda: file.exists() and file.read_text(), "the child's pid")
    child = int(file.read_text())
    await world.clock.advance(6)
    assert run.why == "timeout"
    await asyncio.wait({task}, timeout=10)
    settlement = task.result()
    assert isinstance(settlement.outcome, Failure)
    assert type(settlement.outcome.error) is TimeoutError
    await asyncio.to_thread(until, lambda: not _runs(child), "the child's end")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
