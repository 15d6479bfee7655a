"""The states of an app, and which call leads from one to which other: all of it, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, final

from kiqpy.errors import LifecycleError


class State(Enum):
    """Where an app is between its first start and its last stop."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"  # a part of kiqpy itself broke for good; the rest runs until `stop`
    STOPPING = "stopping"
    STOPPED = "stopped"  # it may be started again; a start that failed ends here, too


class Call(Enum):
    """What moves an app from one state to the next."""

    START = "start"
    STARTED = "started"  # the start has succeeded
    NOT_STARTED = "not started"  # the start has failed, and nothing of it is left
    FAIL = "fail"
    STOP = "stop"
    STOPPED = "stopped"  # the stop has come to its end
    ABANDON = "abandon"  # its event loop was closed: whatever it was, it does not run any more


_IS_STARTED: Final = "is started already; stop it first, or make another"

# For each call and state the next state, or the message of the LifecycleError that refuses it. What
# is missing can only be called by a defect of ours.
TRANSITIONS: Final[Mapping[Call, Mapping[State, State | str]]] = {
    Call.START: {
        State.NEW: State.STARTING,
        State.STARTING: _IS_STARTED,
        State.RUNNING: _IS_STARTED,
        State.FAILED: _IS_STARTED,
        State.STOPPING: "is still stopping: await its stop() first",
        State.STOPPED: State.STARTING,
    },
    Call.STARTED: {State.STARTING: State.RUNNING},
    Call.NOT_STARTED: {State.STARTING: State.STOPPED},
    Call.FAIL: {  # a failure may be noticed late; it is kept, whatever the state
        State.NEW: State.NEW,
        State.STARTING: State.STARTING,
        State.RUNNING: State.FAILED,
        State.FAILED: State.FAILED,
        State.STOPPING: State.STOPPING,
        State.STOPPED: State.STOPPED,
    },
    Call.STOP: {
        State.NEW: State.NEW,
        State.STARTING: "is still starting: cancel its start() instead",
        State.RUNNING: State.STOPPING,
        State.FAILED: State.STOPPING,
        State.STOPPING: State.STOPPING,
        State.STOPPED: State.STOPPED,
    },
    Call.STOPPED: {State.STOPPING: State.STOPPED},
    Call.ABANDON: dict.fromkeys(State, State.STOPPED),
}


@final
class StateMachine:
    """The state of the app called `name`."""

    def __init__(self, name: str) -> None:
        self.state = State.NEW
        self._name = name

    def check(self, call: Call) -> State:
        """The state that follows; LifecycleError if the call is refused now."""
        following = TRANSITIONS[call][self.state]
        if isinstance(following, str):
            raise LifecycleError(f"{self._name} {following}")
        return following

    def take(self, call: Call) -> State:
        """Go on to the state that follows, and return the one before."""
        before, self.state = self.state, self.check(call)
        return before
