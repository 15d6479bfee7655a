"""What a worker's call gives: awaited if it can be, refused if nobody would run it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from kiqpy import App, ConfigError, Discard, Job, Kill, Snooze, Worker, worker
from kiqpy.outcome import Aborted, Failure, Snoozed, Success
from tests.stages.harness import World, outcome_of, payload, performer

pytestmark = pytest.mark.anyio


def decorated(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def around(*args: Any) -> Any:
        return call(*args)

    return around


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def fails(n: int) -> int:
    raise KeyError(n)


async def discards(n: int) -> Any:
    return Discard(str(n))


class Doubles:
    async def __call__(self, n: int) -> int:
        return await double(n)


class PlainDoubles:
    def __call__(self, n: int) -> int:
        return 2 * n


class Decorated(Worker, name="w"):
    @decorated
    async def perform(self, n: int) -> int:
        return await double(n)


class Forgets(Worker, name="w"):
    async def perform(self, n: int) -> Any:
        return double(n)


def make_generator(n: int) -> Any:
    return (i for i in range(n))


def lines(n: int) -> Iterator[int]:
    yield n


async def aiter_lines(n: int) -> AsyncIterator[int]:
    yield n


class YieldingWhenCalled:
    def __call__(self, n: int) -> Iterator[int]:
        yield n


def named(call: Callable[..., Any]) -> Any:
    return worker(name="w")(call)


async def outcome(made: Any) -> Any:
    world = World()
    return await outcome_of(world, performer(world, made), payload("w", 4))


@pytest.mark.parametrize(
    "made",
    [
        named(decorated(double)),
        named(decorated(decorated(double))),
        named(functools.partial(double)),
        named(functools.partial(decorated(double))),
        named(functools.partial(lambda times, n: times * n, 2)),
        named(Doubles()),
        named(PlainDoubles()),
        named(functools.partial(Doubles())),
        named(Doubles().__call__),
        named(lambda n: double(n)),
        Decorated,
        Forgets,
    ],
)
async def test_what_can_be_awaited_is_awaited(made: Any) -> None:
    """A coroutine that nobody awaited counted as success; its body never ran."""
    assert await outcome(made) == Success(8)


async def test_what_is_awaited_may_fail_and_signal() -> None:
    failed = await outcome(named(decorated(fails)))
    assert isinstance(failed, Failure)
    assert isinstance(failed.error, KeyError)
    assert await outcome(named(decorated(discards))) == Aborted("4")


async def test_a_generator_that_a_job_returns_is_its_failure() -> None:
    for made in (named(decorated(lines)), named(make_generator), named(decorated(aiter_lines))):
        failed = await outcome(made)
        assert isinstance(failed, Failure)
        assert "whose body nobody runs" in str(failed.error)


@pytest.mark.parametrize(
    "call",
    [lines, aiter_lines, functools.partial(lines, 1), YieldingWhenCalled()],
)
def test_generators_are_refused_where_they_are_declared(call: Any) -> None:
    with pytest.raises(ConfigError, match="would never run: remove `yield`"):
        named(call)
    with pytest.raises(ConfigError, match="would never run"):
        worker(name="w", unique_for=5, unique_by=call)(double)
    with pytest.raises(ConfigError, match="would never run"):
        worker(name="w", backoff=call)(double)
    with pytest.raises(ConfigError, match="would never run"):
        named(double).retries_exhausted(call)
    with pytest.raises(ConfigError, match="would never run"):
        App(death_handlers=[call])


def test_a_class_worker_that_yields_is_refused() -> None:
    with pytest.raises(ConfigError, match="Streams: its `perform` is a generator"):

        class Streams(Worker):
            def perform(self) -> Iterator[int]:
                yield 1

    with pytest.raises(ConfigError, match=r"Hooked.retries_exhausted is a generator"):

        class Hooked(Worker):
            def perform(self) -> None: ...

            def retries_exhausted(self, job: Job, error: BaseException, /) -> object:
                yield 1


@pytest.mark.parametrize("call", [functools.partial(double, 1), Doubles(), PlainDoubles()])
def test_what_has_no_name_is_asked_for_one(call: Any) -> None:
    """It was an AttributeError of `__name__`."""
    with pytest.raises(ConfigError, match="has no name of its own"):
        worker(call)


@pytest.mark.parametrize("call", [functools.partial(double), Doubles()])
def test_what_can_not_be_awaited_there_is_refused(call: Any) -> None:
    with pytest.raises(ConfigError, match="can't be awaited there"):
        worker(name="w", unique_for=5, unique_by=call)(double)
    with pytest.raises(ConfigError, match="can't be awaited there"):
        worker(name="w", backoff=call)(double)


# -- signals


@worker(name="w")
async def answers_a_class(n: int) -> Any:
    return Snooze


async def test_the_class_snooze_is_a_failure_that_says_what_is_missing() -> None:
    """It counted as success."""
    failed = await outcome(answers_a_class)
    assert isinstance(failed, Failure)
    assert "return Snooze(seconds)" in str(failed.error)


async def test_a_middleware_may_answer_the_class_of_a_signal() -> None:
    """`return Kill` ended the job as "halted"."""

    async def kills(job: Job, call_next: Any) -> Any:
        return Kill

    app = App(workers=[answers_a_class], middleware=[kills])
    async with app.testing() as tester:
        await app.enqueue(answers_a_class.new(1))
        await tester.drain()
        assert [job.class_ for job in tester.dead] == ["w"]


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("together", errors)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(Snooze(5)), Snoozed(5.0)),
        (group(Discard("a")), Aborted("a")),
        (group(group(Discard("a"))), Aborted("a")),
        (group(Snooze(5), Snooze(9), Snooze(7)), Snoozed(9.0)),
        (group(Snooze(5), group(Discard("a"))), Aborted("a")),
    ],
)
async def test_a_group_of_nothing_but_signals_is_that_signal(
    error: BaseException, expected: object
) -> None:
    """What a TaskGroup makes of a child's signal counted as a failure."""

    async def raises(n: int) -> None:
        raise error

    assert await outcome(named(raises)) == expected


async def test_kill_in_a_group_is_final_and_an_error_beside_a_signal_is_a_failure() -> None:
    async def kills(n: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(raising(Kill("now")))

    async def mixed(n: int) -> None:
        raise group(Discard("a"), ValueError("b"))

    killed = await outcome(named(kills))
    assert isinstance(killed, Failure)
    assert killed.final
    failed = await outcome(named(mixed))
    assert isinstance(failed, Failure)
    assert not failed.final


async def raising(error: BaseException) -> None:
    raise error
