"""The table of an app's states: complete for what users call, and each refusal with its words."""

from __future__ import annotations

import pytest

from kiqpy import LifecycleError
from kiqpy._runtime.state import TRANSITIONS, Call, State, StateMachine

START, STOP = Call.START, Call.STOP


def machine(*calls: Call) -> StateMachine:
    made = StateMachine("Jobs")
    for call in calls:
        made.take(call)
    return made


WAYS: dict[State, tuple[Call, ...]] = {
    State.NEW: (),
    State.STARTING: (START,),
    State.RUNNING: (START, Call.STARTED),
    State.FAILED: (START, Call.STARTED, Call.FAIL),
    State.STOPPING: (START, Call.STARTED, STOP),
    State.STOPPED: (START, Call.STARTED, STOP, Call.STOPPED),
}


def test_every_state_can_be_reached() -> None:
    assert {state: machine(*calls).state for state, calls in WAYS.items()} == {
        state: state for state in State
    }


@pytest.mark.parametrize("call", [START, STOP, Call.FAIL])
def test_what_may_come_at_any_time_is_answered_in_every_state(call: Call) -> None:
    assert TRANSITIONS[call].keys() == set(State)


@pytest.mark.parametrize(
    ("state", "call", "words"),
    [
        (State.STARTING, START, "Jobs is started already; stop it first, or make another"),
        (State.RUNNING, START, "Jobs is started already; stop it first, or make another"),
        (State.FAILED, START, "Jobs is started already; stop it first, or make another"),
        (State.STOPPING, START, "Jobs is still stopping: await its stop() first"),
        (State.STARTING, STOP, "Jobs is still starting: cancel its start() instead"),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(state: State, call: Call, words: str) -> None:
    it = machine(*WAYS[state])
    for refused in (it.check, it.take):
        with pytest.raises(LifecycleError) as raised:
            refused(call)
        assert str(raised.value) == words
        assert it.state is state


def test_nothing_else_is_refused() -> None:
    refused = {(s, c) for c, row in TRANSITIONS.items() for s, to in row.items() if type(to) is str}
    assert len(refused) == 5


def test_a_start_that_failed_may_be_repeated() -> None:
    it = machine(START, Call.NOT_STARTED)
    assert it.state is State.STOPPED
    assert it.take(START) is State.STOPPED
