"""Middleware around each attempt and each push: alone, then in a running app."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import pytest

from kiqpy import (
    App,
    ArgumentError,
    ConfigError,
    Discard,
    Job,
    LifecycleError,
    Snooze,
    worker,
)
from kiqpy.event import Event, JobAborted, JobFailure, JobSnoozed, JobSuccess
from kiqpy.middleware import Next, check_middleware, compile_client, compile_server
from kiqpy.testing import rest
from tests.server import TestServer

pytestmark = pytest.mark.anyio

JOB = Job("noop", [1])


class Tag:
    """Leaves its name on both sides of what is further in."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    async def __call__(self, job: Job, call_next: Next) -> Any:
        self.seen.append(f"{self.name}>")
        result = await call_next(job)
        self.seen.append(f"<{self.name}")
        return result


async def passes(job: Job, call_next: Next) -> Any:
    return await call_next(job)


async def forgets(job: Job, call_next: Next) -> None:
    await call_next(job)


async def halts(job: Job, call_next: Next) -> str:
    return "not a signal"


async def attempt(chain: list[Any], result: Any = None) -> Any:
    """The result of one attempt; `result` is what perform returns or raises."""

    async def perform(job: Job) -> Any:
        if isinstance(result, Exception) and not isinstance(result, Snooze | Discard):
            raise result
        return result

    compiled = compile_server(chain)
    assert compiled is not None
    return await compiled(perform)(JOB)


# -- the chain by itself


def test_an_empty_chain_is_none() -> None:
    assert compile_server([]) is None
    assert compile_client([]) is None


async def test_outermost_first_and_the_result_is_performs() -> None:
    seen: list[str] = []
    assert await attempt([Tag("a", seen), Tag("b", seen)], 7) == 7
    assert seen == ["a>", "b>", "<b", "<a"]


async def test_what_a_middleware_returns_takes_the_place_of_performs_result() -> None:
    async def doubles(job: Job, call_next: Next) -> Any:
        return 2 * await call_next(job)

    assert await attempt([doubles, passes], 7) == 14


async def test_a_middleware_that_returns_nothing_loses_no_signal() -> None:
    snooze = Snooze(5)
    assert await attempt([forgets, forgets], snooze) is snooze


async def test_a_middleware_may_change_the_job() -> None:
    async def other(job: Job, call_next: Next) -> Any:
        return await call_next(Job("other", [2]))

    async def perform(job: Job) -> Any:
        return job.class_

    compiled = compile_server([other, passes])
    assert compiled is not None
    assert await compiled(perform)(JOB) == "other"


async def test_one_that_does_not_go_on_halts_the_job() -> None:
    for chain in ([halts], [passes, halts], [forgets, halts, passes]):
        result = await attempt(chain, AssertionError("performed"))
        assert isinstance(result, Discard)
        assert result.reason == "halted"


async def test_a_signal_counts_as_performs_own() -> None:
    snooze = Snooze(5)

    async def returns(job: Job, call_next: Next) -> Any:
        return snooze

    async def raises(job: Job, call_next: Next) -> Any:
        raise snooze

    assert await attempt([passes, returns]) is snooze
    with pytest.raises(Snooze) as raised:
        await attempt([passes, raises])
    assert not hasattr(raised.value, "__notes__")


async def test_an_error_is_put_down_to_who_raised_it() -> None:
    async def breaks(job: Job, call_next: Next) -> Any:
        await call_next(job)
        raise ValueError("no")

    async def translates(job: Job, call_next: Next) -> Any:
        try:
            return await call_next(job)
        except ValueError as error:
            raise KeyError("other") from error

    with pytest.raises(ValueError, match="no") as its_own:
        await attempt([passes, breaks, passes])
    [note] = its_own.value.__notes__
    assert note.startswith("raised by middleware ")
    assert note.endswith("breaks")
    with pytest.raises(ValueError, match="performs") as performs:
        await attempt([passes, forgets], ValueError("performs"))
    assert not hasattr(performs.value, "__notes__")
    with pytest.raises(KeyError) as translated:
        await attempt([translates, passes], ValueError("performs"))
    assert translated.value.__notes__[0].endswith("translates")


async def test_an_error_that_is_raised_again_and_again_does_not_grow() -> None:
    error = ValueError("no")

    async def breaks(job: Job, call_next: Next) -> Any:
        raise error

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            await attempt([breaks])
    assert len(error.__notes__) == 1


async def test_going_on_twice_is_an_error() -> None:
    async def twice(job: Job, call_next: Next) -> Any:
        await call_next(job)
        await call_next(job)

    with pytest.raises(RuntimeError, match="was called twice") as raised:
        await attempt([twice])
    assert raised.value.__notes__[0].endswith("twice")


async def test_going_on_without_await_is_an_error() -> None:
    """The job would be settled as done, and never have run."""

    async def careless(job: Job, call_next: Next) -> None:
        call_next(job)

    with pytest.raises(RuntimeError, match=r"careless did not await call_next\(job\)"):
        await attempt([passes, careless])


async def test_going_on_with_something_else_is_an_error() -> None:
    async def wrong(job: Job, call_next: Next) -> Any:
        return await call_next(job.args)  # type: ignore[arg-type]

    with pytest.raises(ArgumentError, match=r"call_next takes the job, not \[1\]"):
        await attempt([wrong])


async def test_a_cancel_goes_through_and_is_nobodys_error() -> None:
    async def perform(job: Job) -> Any:
        await asyncio.Event().wait()

    compiled = compile_server([passes])
    assert compiled is not None
    running = asyncio.create_task(compiled(perform)(JOB))
    await rest()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_jobs_at_the_same_time_do_not_meet() -> None:
    order: list[int] = []

    async def perform(job: Job) -> int:
        await asyncio.sleep(0)
        order.append(job.args[0])
        return int(job.args[0])

    compiled = compile_server([passes, forgets])
    assert compiled is not None
    jobs = [Job("noop", [n]) for n in range(20)]
    assert await asyncio.gather(*(compiled(perform)(job) for job in jobs)) == list(range(20))


class Counted:
    """Knows how many of it there are."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    async def __call__(self, job: Job, call_next: Next) -> Any:
        return await call_next(job)


async def test_a_class_is_instantiated_once() -> None:
    Counted.made = 0
    check_middleware("middleware", [Counted])
    assert Counted.made == 0
    compiled = compile_server([Counted])
    assert compiled is not None

    async def perform(job: Job) -> int:
        return 7

    assert [await compiled(perform)(JOB) for _ in range(3)] == [7, 7, 7]
    assert Counted.made == 1


def plain(job: Job, call_next: Next) -> Any: ...


async def one_argument(job: Job) -> Any: ...


class NeedsArguments:
    def __init__(self, name: str) -> None: ...

    async def __call__(self, job: Job, call_next: Next) -> Any: ...


class NotAsync:
    def __call__(self, job: Job, call_next: Next) -> Any: ...


class NoCall: ...


WRONG = [
    (plain, "plain is not async: give `async def name"),
    (7, "int is not async"),
    ("passes", "str is not async"),
    (NotAsync, "NotAsync is not async"),
    (NotAsync(), "NotAsync is not async"),
    (NoCall, "NoCall is not async"),
    (one_argument, "one_argument takes other arguments"),
    (NeedsArguments, "NeedsArguments needs arguments: give an instance of it"),
]


@pytest.mark.parametrize(("item", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_no_middleware_is_refused(item: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^client_middleware: {message}"):
        compile_client([passes, item])


def test_functions_objects_classes_methods_and_partials_will_do() -> None:
    async def longer(tag: str, job: Job, call_next: Next) -> Any: ...

    class Holder:
        async def method(self, job: Job, call_next: Next) -> Any: ...

    chain = [passes, NeedsArguments("x"), Counted, Holder().method, functools.partial(longer, "t")]
    check_middleware("middleware", chain)


# -- around a push


async def pushed(*chain: Any) -> Job | None:
    compiled = compile_client(chain)
    assert compiled is not None
    awaited = await compiled(JOB)
    run_sync = compiled.run_sync(JOB)
    assert (awaited and awaited.payload) == (run_sync and run_sync.payload)
    return run_sync


async def test_the_job_that_goes_on_is_pushed() -> None:
    async def other(job: Job, call_next: Next) -> None:
        await call_next(Job("other", [2]))

    assert await pushed(passes, forgets) is JOB
    changed = await pushed(other, passes)
    assert changed is not None
    assert changed.class_ == "other"


async def test_the_job_that_does_not_go_on_is_not_pushed() -> None:
    assert await pushed(passes, halts) is None


async def test_an_error_reaches_the_caller_even_after_call_next() -> None:
    async def breaks(job: Job, call_next: Next) -> None:
        await call_next(job)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await pushed(passes, breaks)


async def test_code_that_cannot_wait_is_told_who_would() -> None:
    async def waits(job: Job, call_next: Next) -> None:
        try:
            await asyncio.sleep(0)
            await call_next(job)
        finally:
            await asyncio.sleep(0)

    async def waits_after(job: Job, call_next: Next) -> None:
        await call_next(job)
        await asyncio.sleep(0)

    for chain in ([passes, waits], [passes, waits_after, passes]):
        compiled = compile_client(chain)
        assert compiled is not None
        with pytest.raises(LifecycleError, match=rf"client middleware .*{chain[1].__name__} waits"):
            compiled.run_sync(JOB)


# -- in a running app


@worker(queue="default", retry=3, backoff=lambda _count, _error, _job: 1000.0)
async def echo(text: str) -> Any:
    ran.append(text)
    if text == "snooze":
        return Snooze(1000)
    if text == "raise":
        raise ValueError("performs")
    return None


@worker
def in_a_thread(text: str) -> None:
    ran.append(text)


ran: list[str] = []


async def outcomes(server: TestServer, chain: list[Any], *jobs: Job, **options: Any) -> list[Event]:
    """What became of each job, run one after the other."""
    ran.clear()
    told: asyncio.Queue[Event] = asyncio.Queue()
    app = App(
        redis_url=server.url, workers=[echo, in_a_thread], queues={"default": 1}, middleware=chain,
        **options,
    )  # fmt: skip
    for name in ("job.success", "job.aborted", "job.snoozed", "job.failure"):
        app.attach(name, told.put_nowait)
    async with app:
        ends: list[Event] = []
        for job in jobs:
            await app.enqueue(job)
            ends.append(await asyncio.wait_for(told.get(), 20))
    return ends


async def test_in_an_app_it_stands_around_every_attempt(clean: TestServer) -> None:
    seen: list[str] = []
    jobs = [echo.new("x"), in_a_thread.new("y")]
    ends = await outcomes(clean, [Tag("a", seen), forgets], *jobs)
    assert [type(end) for end in ends] == [JobSuccess, JobSuccess]
    assert ran == ["x", "y"]
    assert seen == ["a>", "<a"] * 2


async def test_in_an_app_one_that_does_not_go_on_aborts_the_job(clean: TestServer) -> None:
    [end] = await outcomes(clean, [passes, halts], echo.new("x"))
    assert isinstance(end, JobAborted)
    assert end.reason == "halted"
    assert ran == []
    assert clean.cli("ZCARD", "retry") == 0


async def test_in_an_app_signals_pass_and_may_be_given(clean: TestServer) -> None:
    async def discards(job: Job, call_next: Next) -> Any:
        if job.args == ["discard"]:
            raise Discard("by middleware")
        await call_next(job)

    ends = await outcomes(clean, [forgets, discards], echo.new("snooze"), echo.new("discard"))
    snoozed, aborted = ends
    assert isinstance(snoozed, JobSnoozed)
    assert isinstance(aborted, JobAborted)
    assert (snoozed.in_s, aborted.reason) == (1000, "by middleware")


async def test_in_an_app_its_error_is_the_jobs_failure_and_says_whose_it_is(
    clean: TestServer,
) -> None:
    async def breaks(job: Job, call_next: Next) -> Any:
        await call_next(job)
        raise KeyError("of the middleware")

    ends = await outcomes(clean, [breaks, forgets], echo.new("x"), echo.new("raise"))
    own, performs = ends
    assert isinstance(own, JobFailure)
    assert isinstance(performs, JobFailure)
    assert own.retry_in_s == 1000.0
    assert own.error.__notes__[0].endswith("breaks")
    assert not hasattr(performs.error, "__notes__")
    entries = clean.cli("ZRANGE", "retry", 0, -1)
    assert isinstance(entries, list)
    kept = {job["args"][0]: job for job in (json.loads(str(entry)) for entry in entries)}
    assert kept["x"]["error_class"] == "KeyError"
    assert "raised by middleware" in kept["x"]["error_message"]
    assert kept["raise"]["error_message"] == "performs"


async def test_in_an_app_the_job_that_goes_on_is_the_one_that_runs(clean: TestServer) -> None:
    async def louder(job: Job, call_next: Next) -> Any:
        return await call_next(Job.from_payload({**job.payload, "args": [job.args[0].upper()]}))

    await outcomes(clean, [louder], echo.new("x"), in_a_thread.new("y"))
    assert ran == ["X", "Y"]


async def test_in_an_app_a_timeout_includes_the_middleware(clean: TestServer) -> None:
    async def hangs(job: Job, call_next: Next) -> Any:
        await asyncio.Event().wait()

    [end] = await outcomes(clean, [hangs], echo.new("x"), timeout=0.05)
    assert isinstance(end, JobFailure)
    assert isinstance(end.error, TimeoutError)
