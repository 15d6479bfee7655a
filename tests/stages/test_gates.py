"""Checks and gates before a job: their order, waiting, and what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from kiqpy import worker
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate
from kiqpy.job import Job
from kiqpy.outcome import RELEASED, SUCCESS, Aborted, Failure, Outcome, Snoozed
from kiqpy.testing import rest
from tests.stages.harness import World, outcome_of, payload, performer, settlement_of, start

pytestmark = pytest.mark.anyio
said: list[str] = []


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


@worker
async def noop() -> None:
    said.append("performed")


@worker(retry=False)
async def fails() -> None:
    raise ValueError("no")


@worker
async def endless() -> None:
    await asyncio.Event().wait()


def check(name: str, *answers: Outcome | None) -> Any:
    left = list(answers)

    def ask(_job: Job) -> Outcome | None:
        said.append(name)
        return left.pop(0) if left else None

    return ask


def gate(name: str, answer: Outcome | None = None) -> Gate:
    def ask(_run: Run) -> Outcome | None:
        said.append(name)
        return answer

    return ask


def waiting(name: str, opened: asyncio.Event, answer: Outcome | None = None) -> Gate:
    async def ask(_run: Run) -> Outcome | None:
        said.append(name)
        await opened.wait()
        return answer

    return ask


def holding(name: str) -> Gate:
    def ask(run: Run) -> Awaitable[None] | None:
        run.hold(lambda: said.append(f"{name} back"))
        return None

    return ask


def made(world: World, *gates: Gate, checks: tuple[Any, ...] = ()) -> Any:
    def gates_of(_spec: Spec) -> tuple[Gate, ...]:
        return gates

    return performer(world, noop, fails, endless, checks=checks, gates=gates_of)


async def test_checks_come_first_then_the_gates_then_the_job() -> None:
    world = World()
    perform = made(world, gate("g1"), gate("g2"), checks=(check("c1"), check("c2")))
    assert await outcome_of(world, perform, payload("noop")) == SUCCESS
    assert said == ["c1", "c2", "g1", "g2", "performed"]


async def test_the_first_that_refuses_ends_the_run_with_its_outcome() -> None:
    world = World()
    perform = made(world, gate("g1"), gate("g2", Snoozed(7.0)), gate("g3"))
    assert await outcome_of(world, perform, payload("noop")) == Snoozed(7.0)
    assert said == ["g1", "g2"]
    refusing = made(world, gate("g"), checks=(check("c", Aborted("why")),))
    assert await outcome_of(world, refusing, payload("noop")) == Aborted("why")


async def test_an_outcome_that_is_an_empty_tuple_refuses_too() -> None:
    world, opened = World(), asyncio.Event()
    opened.set()
    assert not RELEASED, "so truth is no test of it"
    for refusing in (gate("g", RELEASED), waiting("w", opened, RELEASED)):
        said.clear()
        assert await outcome_of(world, made(world, refusing), payload("noop")) == RELEASED
        assert "performed" not in said


async def test_after_a_gate_has_waited_the_checks_are_asked_again() -> None:
    world, opened = World(), asyncio.Event()
    checks = (check("c", None, Aborted("meanwhile")),)
    perform = made(world, waiting("w", opened), gate("g"), checks=checks)
    _, running = start(world, perform, payload("noop"))
    await rest()
    assert said == ["c", "w"]
    opened.set()
    assert (await running).outcome == Aborted("meanwhile")
    assert said == ["c", "w", "c"]


async def test_the_time_at_a_gate_is_no_time_of_the_job() -> None:
    world, opened = World(), asyncio.Event()
    _, running = start(world, made(world, waiting("w", opened)), payload("noop"))
    await world.clock.advance(50)
    opened.set()
    assert (await running).took_s == 0


async def test_what_gates_took_is_given_back_when_the_job_has_ended() -> None:
    world = World()
    perform = made(world, holding("one"), holding("other"))
    await outcome_of(world, perform, payload("noop"))
    assert said == ["performed", "other back", "one back"]
    said.clear()
    outcome = (await settlement_of(world, perform, payload("fails"))).outcome
    assert isinstance(outcome, Failure)
    assert said == ["other back", "one back"]


async def test_it_is_given_back_if_a_later_gate_refuses_or_the_run_is_cancelled() -> None:
    world = World()
    await outcome_of(world, made(world, holding("a"), gate("g", Aborted("x"))), payload("noop"))
    assert said == ["g", "a back"]
    said.clear()
    run, running = start(world, made(world, holding("a")), payload("endless"))
    await rest()
    assert said == []
    run.cancel("released")
    assert (await running).outcome == RELEASED
    assert said == ["a back"]


async def test_an_error_in_a_gate_is_the_jobs_failure() -> None:
    def broken(_run: Run) -> None:
        raise RuntimeError("a gate")

    world = World()
    outcome = await outcome_of(world, made(world, holding("a"), broken), payload("noop"))
    assert isinstance(outcome, Failure)
    assert repr(outcome.error) == "RuntimeError('a gate')"
    assert said == ["a back"]
