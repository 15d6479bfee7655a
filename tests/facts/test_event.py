"""The catalogue of events: frozen values with names, descriptions and units."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import pytest

from kiqpy import ConfigError, event
from kiqpy._reporting.bus import Bus, matching
from kiqpy.event import Event

KINDS: list[type[Event]] = [
    kind
    for kind in vars(event).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def fields(kind: type[Event]) -> list[dataclasses.Field[object]]:
    return list(dataclasses.fields(kind))


@every_kind
def test_an_event_is_a_frozen_value_that_says_when_it_is_told(kind: type[Event]) -> None:
    made = kind(*[1.0 for _ in fields(kind)])
    assert made == kind(*[1.0 for _ in fields(kind)])
    assert not hasattr(made, "__dict__")
    for field in fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, 2.0)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # what dataclasses write by themselves
    assert kind.__doc__.rstrip().endswith((".", "tells."))


@every_kind
def test_a_number_that_has_a_unit_has_it_in_its_name(kind: type[Event]) -> None:
    for field in fields(kind):
        assert "float" not in str(field.type) or field.name.endswith(("_s", "_at")), field.name


@every_kind
def test_the_name_follows_the_class(kind: type[Event]) -> None:
    words = re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower()
    assert kind.name.replace(".", "_") == words or kind is event.LeaseLapsed
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind.name)


def test_names_are_unique() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_patterns_are_those_of_shells() -> None:
    assert matching(["*"]) == sorted(kind.name for kind in KINDS)
    assert matching(["flush.*", "flush.failed"]) == ["flush.failed", "flush.restored"]
    assert matching(["queue.paus[ei]*"]) == ["queue.paused", "queue.pausing"]


WRONG = [
    ("job.succes", "no event matches 'job.succes'; did you mean 'job.success'?"),
    ("job.sucess*", "no event matches 'job.sucess\\*'; did you mean 'job.success'?"),
    ("Job.success", "no event matches 'Job.success'; did you mean 'job.success'?"),
    ("", "no event matches ''; known: executor.exhausted, fetch.failed, "),
    (7, "is no pattern: give an event's name, or \"job"),
]


@pytest.mark.parametrize(("pattern", "message"), WRONG)
def test_a_pattern_that_matches_nothing_is_refused(pattern: str, message: str) -> None:
    bus = Bus()
    with pytest.raises(ConfigError, match=message):
        bus.attach(pattern, print)


def test_attaching_and_detaching_counts_from_the_next_event() -> None:
    bus, heard = Bus(), list[Event]()
    told = event.LoopLag(1.0)
    assert bus.handlers(event.LoopLag) == []
    bus.attach("loop.*", heard.append)
    bus.emit(told)
    assert bus.handlers(event.LoopLag) == [heard.append]
    bus.detach(heard.append)
    assert bus.handlers(event.LoopLag) == []
    bus.emit(told)
    assert heard == [told]


async def waits(_event: Event) -> None: ...


@pytest.mark.parametrize("handler", [waits, "print", None])
def test_what_cannot_be_called_at_once_is_refused(handler: Any) -> None:
    with pytest.raises(ConfigError, match="give a function that is not async"):
        Bus().attach("*", handler)


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), SystemExit(1)])
def test_whatever_a_handler_raises_is_logged_and_goes_no_further(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    bus, heard = Bus(), list[Event]()

    def breaks(_event: Event) -> None:
        raise error

    bus.attach("*", breaks)
    bus.attach("*", heard.append)
    bus.emit(event.LoopLag(1.0))
    assert len(heard) == 1
    assert "a handler of loop.lag raised" in caplog.text


def test_a_handler_may_detach_itself_while_it_is_called() -> None:
    bus, heard = Bus(), list[Event]()

    def once(told: Event) -> None:
        heard.append(told)
        bus.detach(once)

    bus.attach("*", once)
    bus.attach("*", heard.append)
    for _ in range(2):
        bus.emit(event.LoopLag(1.0))
    assert len(heard) == 3
