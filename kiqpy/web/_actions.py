"""What can be done from a page: its words, and whether it is asked for once more. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from kiqpy.web._query import Notice

Kind = Literal["jobs", "queue", "process", "periodic"]


class Button(NamedTuple):
    """A button. `asks`: it can't be undone, so a page asks for it once more, in words."""

    name: str
    kind: Kind
    label: str
    past: str
    consequence: str
    asks: bool = False


_ALL: Final = (
    Button(
        name="retry",
        kind="jobs",
        label="Retry now",
        past="Put into their queues",
        consequence="They are put into their queues now.",
    ),
    Button(
        name="requeue",
        kind="jobs",
        label="Run now",
        past="Put into their queues",
        consequence="They are put into their queues now.",
    ),
    Button(
        name="kill",
        kind="jobs",
        label="Move to dead",
        past="Moved to the dead set",
        consequence="They move to the dead set and can be retried from there.",
    ),
    Button(
        name="delete",
        kind="jobs",
        label="Delete",
        past="Deleted",
        consequence="They are gone for good.",
        asks=True,
    ),
    Button(
        name="cancel",
        kind="jobs",
        label="Cancel",
        past="Cancelled",
        consequence=(
            "What runs is interrupted within a second and moves to the dead set. "
            "A job in a thread can't be interrupted."
        ),
        asks=True,
    ),
    Button(
        name="pause",
        kind="queue",
        label="Pause",
        past="Paused",
        consequence="No process claims its jobs until it is resumed.",
    ),
    Button(
        name="resume",
        kind="queue",
        label="Resume",
        past="Resumed",
        consequence="Processes claim jobs of it again.",
    ),
    Button(
        name="clear",
        kind="queue",
        label="Delete queue",
        past="Deleted",
        consequence="All jobs that wait in it are gone for good.",
        asks=True,
    ),
    Button(
        name="quiet",
        kind="process",
        label="Quiet",
        past="Told to be quiet",
        consequence="It ends the jobs it runs and claims no more.",
    ),
    Button(
        name="stop",
        kind="process",
        label="Stop",
        past="Told to stop",
        consequence=(
            "It claims no more jobs, gives those it runs their time to end, pushes the rest back, "
            "and exits. Whatever supervises it may start it again."
        ),
        asks=True,
    ),
    Button(
        name="enable",
        kind="periodic",
        label="Enable",
        past="Enabled",
        consequence="It ticks from now on.",
    ),
    Button(
        name="disable",
        kind="periodic",
        label="Disable",
        past="Disabled",
        consequence="It does not tick until it is enabled.",
    ),
    Button(
        name="run_now",
        kind="periodic",
        label="Run now",
        past="Enqueued once",
        consequence="One job of it is enqueued; its ticks go on as they were.",
    ),
)
ACTIONS: Final[Mapping[str, Button]] = {action.name: action for action in _ALL}
_OF_PLACE: Final = {
    "retry": ("retry", "kill", "delete"),
    "scheduled": ("requeue", "kill", "delete"),
    "dead": ("retry", "delete"),
    "running": ("cancel",),
}


def actions_of(place: str) -> list[Button]:
    """What can be done to jobs where they are."""
    return [ACTIONS[name] for name in _OF_PLACE.get(place, ("kill", "delete"))]


def words_of(notice: Notice) -> str:
    """What an action has come to, for a person."""
    action = ACTIONS.get(notice.did)
    if action is None:
        return ""
    return " ".join(part for part in (_done(action, notice), *_not_done(notice)) if part)


def _done(action: Button, notice: Notice) -> str:
    if action.kind == "jobs" or action.name == "clear":
        return f"{action.past}: {counted(notice.done)}."
    changed = f"{action.past}." if notice.done else "Nothing to do: it was so already, or is gone."
    heard = " It obeys at its next heartbeat, within seconds."
    return changed + (heard if notice.done and action.kind == "process" else "")


def _not_done(notice: Notice) -> list[str]:
    said: list[str] = []
    if notice.gone:
        said.append(f"{counted(notice.gone)} had gone meanwhile: run, or moved by somebody else.")
    if notice.unreadable:
        said.append(f"{counted(notice.unreadable)} can't be read, so can only be deleted.")
    if notice.left:
        said.append("There was no time for all of them: do the same again for the rest.")
    return said


def counted(count: int) -> str:
    """How many jobs, in words."""
    return f"{count:,} job{'' if count == 1 else 's'}"
