"""A job: Sidekiq's JSON payload, read strictly.

kiqpy keeps every field of a payload, known or not. When a retry or a rescue changes some fields,
the text of all others stays as it is, so Ruby's 30-digit integers and another client's spacing are
preserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, cast, final

from kiqpy._declare.checks import (
    NOT_IN_NAMES,
    Duration,
    Instant,
    duration,
    instant,
    lane_name,
)
from kiqpy._payload import json
from kiqpy._payload.arguments import check_args
from kiqpy.errors import ArgumentError, DecodeError
from kiqpy.receipt import Result

_MAX_NUMBER: Final = 1e14  # of a count or a time: larger ones are beyond all calendars
_FIELDS: Final = frozenset(
    (
        "args",
        "at",
        "backtrace",
        "class",
        "created_at",
        "dead",
        "enqueued_at",
        "error_backtrace",
        "error_class",
        "error_message",
        "expires_at",
        "expires_in",
        "failed_at",
        "jid",
        "kiq",
        "lane",
        "lane_at",
        "periodic",
        "queue",
        "recovered",
        "recovered_at",
        "retried_at",
        "retry",
        "retry_count",
        "retry_for",
        "retry_queue",
        "tags",
        "tick_at",
        "unique_for",
        "unique_token",
        "unique_until",
        "unlocks_at",
    )
)
# pyright narrows isinstance(x, dict) to dict[Unknown, Unknown]; comparing with these avoids that.
_Object: Final[type[dict[Any, Any]]] = dict
_Array: Final[type[list[Any]]] = list


class Claim(NamedTuple):
    """A job that this process owns until it is settled: its exact bytes and its delivery id."""

    queue: str
    delivery: int
    raw: bytes


class LiveArguments(NamedTuple):
    """The arguments of a local job as its worker got them: for as long as it stays in the process.

    `wire`: as they would travel. `persist`: the option of its worker.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    wire: list[Any]
    persist: str


@final
class Job(Generic[Result]):
    """One Sidekiq payload: the decoded object, typed views of it, every unknown field kept.

    `Result`, for checkers: what its worker returns; `Any` if that is not known.

    `Job("Ruby::Worker", [1], queue="ruby")` needs no Python worker. What it does not say is as the
    app's worker of that name declares, or else as the app does: `queue`, `retry`, `expires_in`,
    `unique_for`, `tags` and so on. Further keywords become payload fields; of those that Sidekiq or
    kiqpy gives a meaning the value is checked. `in_s` (seconds or a timedelta from when it is
    enqueued) or `at_s` (epoch seconds or an aware datetime) postpone it.

    `jid` is given by the client when the job is enqueued, unless you choose one: a job that is
    enqueued twice makes two jobs, with a jid each. `over`: it was run, and that run has ended.

    Raises ArgumentError for a class that is no name and for arguments that JSON would not preserve;
    ConfigError for a field, a queue or a time that makes no sense, and for a misspelt field.
    """

    __slots__ = ("assumed", "at_s", "in_s", "live", "over", "payload", "told")

    def __init__(
        self,
        class_: str,
        args: Sequence[Any] = (),
        *,
        queue: str | None = None,
        retry: bool | int | None = None,
        in_s: Duration | None = None,
        at_s: Instant | None = None,
        **fields: Any,
    ) -> None:
        from kiqpy._declare.fields import check_fields  # most programs make no job by hand

        # What it does not say: its worker's options take the place when it is enqueued.
        self.assumed: Mapping[str, Any] | None = {"queue": "default"} if queue is None else {}
        self.payload: dict[str, Any] = {"class": _class(class_), "args": _args(args)}
        self.payload.update(self.assumed)
        self.payload.update(check_fields({"queue": queue, "retry": retry, **fields}))
        self.in_s = None if in_s is None else duration("in_s", in_s)
        self.at_s = None if at_s is None else instant("at_s", at_s)
        self.live: LiveArguments | None = None
        self.over = False
        self.told = False

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Job[Any]:
        """Wrap an already decoded payload, unchecked and uncopied."""
        job: Job[Any] = cls.__new__(cls)
        job.payload = payload
        job.in_s = job.at_s = job.assumed = job.live = None
        job.over = job.told = False
        return job

    def completed(self, declared: Mapping[str, Any]) -> Job[Result]:
        """A copy with what its worker declares, where the job says nothing itself."""
        payload = {**self.payload, "args": list(self.args)}
        payload.update({k: v for k, v in declared.items() if not self.says(k)})
        job: Job[Result] = Job.from_payload(payload)
        job.in_s, job.at_s, job.live = self.in_s, self.at_s, self.live
        return job

    def with_fields(self, fields: Mapping[str, Any]) -> Job[Result]:
        """A copy with further fields in its payload, where the job says nothing itself."""
        job: Job[Result] = Job.from_payload({**fields, **self.payload})
        job.in_s, job.at_s, job.live = self.in_s, self.at_s, self.live
        job.assumed = self.assumed
        return job

    def in_lane(self, lane: str) -> Job[Result]:
        """A copy in this lane. ConfigError if no lane can be named so."""
        job: Job[Result] = Job.from_payload({**self.payload, "lane": lane_name("lane", lane)})
        job.in_s, job.at_s, job.assumed = self.in_s, self.at_s, self.assumed
        return job

    @property
    def jid(self) -> str:
        return str(self.payload.get("jid") or "")

    @property
    def class_(self) -> str:
        return str(self.payload["class"])

    @property
    def args(self) -> list[Any]:
        args: list[Any] = self.payload["args"]
        return args

    @property
    def queue(self) -> str:
        """The field `queue`; "default" if it is missing or no text."""
        name = self.payload.get("queue")
        return name if name and type(name) is str else "default"

    @property
    def extras(self) -> dict[str, Any]:
        """The fields that have no meaning to Sidekiq or kiqpy."""
        return {k: v for k, v in self.payload.items() if k not in _FIELDS}

    @property
    def attempt(self) -> int:
        """1 for the first run, 2 for the first retry. Starts after a crash do not count."""
        return self.retry_count + (1 if self.told else 2)

    @property
    def retry_count(self) -> int:
        """The number of failures less one, as Sidekiq counts: -1 before the first."""
        return _whole(self.payload.get("retry_count"), -1)

    @property
    def recovered(self) -> int:
        """How often the job went back to its queue because its process died."""
        return _whole(self.payload.get("recovered"), 0)

    @property
    def enqueued_at(self) -> float | None:
        """When it last entered a queue, in epoch seconds; None: unknown."""
        return seconds(self.payload.get("enqueued_at"))

    @property
    def expires_at(self) -> float | None:
        """Epoch seconds after which no run of the job starts; None: it does not expire."""
        return seconds(self.payload.get("expires_at"))

    def says(self, name: str) -> bool:
        """Whether the payload has the field from who made it, not because something must stand."""
        return name in self.payload and self.payload[name] != (self.assumed or {}).get(name)

    def __repr__(self) -> str:
        return f"<Job {self.class_} jid={self.jid or None} queue={self.queue}>"


def _class(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"class_={name!r}: name the class that is to run the job")
    if found := NOT_IN_NAMES.search(name):
        raise ArgumentError(f"class_={name!r}: no class is named with {found[0]!r}")
    return name


def _args(given: object) -> list[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray):
        raise ArgumentError(f"args={given!r}: give a list, such as [{given!r}]")
    args = list(cast("Sequence[object]", given))
    check_args(args)
    return args


def _whole(value: object, otherwise: int) -> int:
    """A count, or `otherwise` for another type and for a number too large to be a count."""
    return value if type(value) is int and -_MAX_NUMBER < value < _MAX_NUMBER else otherwise


def seconds(stamp: object) -> float | None:
    """A time of a payload as epoch seconds: Sidekiq 8 writes integer ms, 6 and 7 float seconds.

    None for another type, an infinite number, and a number beyond all calendars.
    """
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        return None
    if not -_MAX_NUMBER < stamp < _MAX_NUMBER:
        return None
    return stamp / 1000 if isinstance(stamp, int) and stamp > 1e11 else float(stamp)


def decode(raw: bytes) -> Job:
    """The job in `raw`.

    Raises: DecodeError: says why `raw` is no job. Nothing else.
    """
    try:
        payload = json.read(raw)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", raw) from None
    if type(payload) is not _Object:
        raise DecodeError("not a JSON object", raw)
    name = payload.get("class")
    if type(name) is not str or not name:
        raise DecodeError("no class name", raw)
    if type(payload.get("args")) is not _Array:
        payload["args"] = _args_in_text(payload.get("args"), raw)
    return Job.from_payload(payload)


def _args_in_text(text: object, raw: bytes) -> list[Any]:
    """Arguments as Verk writes them: their JSON, as text; `{}` if there are none."""
    found: object = json.parse(text.encode(errors="replace")) if isinstance(text, str) else None
    if isinstance(found, list):
        return cast("list[object]", found)
    if found == {}:
        return []
    raise DecodeError("args is not an array", raw)


def amend_job(job: Job, raw: bytes, changes: Mapping[str, Any], drop: Sequence[str] = ()) -> bytes:
    """`raw`, which was decoded as `job`, with these changes; fast if all fields are new to it."""
    if not job.payload.keys().isdisjoint((*changes, *drop)):
        return json.amend(raw, changes, drop)
    return raw.rstrip()[:-1] + b"," + json.encode(changes)[1:]
