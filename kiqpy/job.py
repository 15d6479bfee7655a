"""Where every job begins and ends: Sidekiq's JSON payload, read strictly and changed sparingly.

A payload that passes through kiqpy keeps each field it came with, known or not. When a retry or a
rescue must change a few fields, the text of all others is spliced in unchanged, `args` above all:
Ruby's 30-digit integers and another client's spacing come out as they went in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, final

from kiqpy._payload import json
from kiqpy._payload.arguments import check_args
from kiqpy.errors import ArgumentError, DecodeError
from kiqpy.receipt import Result

_NEVER: Final = 1e14
_FIELDS: Final = frozenset((
    "class", "args", "jid", "queue", "retry", "created_at", "enqueued_at", "at", "retry_for",
    "retry_queue", "dead", "backtrace", "tags", "error_message", "error_class", "error_backtrace",
    "retry_count", "failed_at", "retried_at", "expires_in", "expires_at", "unique_for",
    "unique_until", "unique_token", "unlocks_at", "recovered", "recovered_at", "kiq", "periodic",
    "tick_at",
))  # fmt: skip
# Sidekiq's pages show names unescaped, and its metrics split them at a bar.
NOT_IN_NAMES: Final = re.compile(r"[<>|\x00-\x1f\x7f]")
# To narrow with them leaves checkers no unknown type.
_Object: Final[type[dict[Any, Any]]] = dict
_Array: Final[type[list[Any]]] = list


class Claim(NamedTuple):
    """A job that this process owns until it is settled: its exact bytes, and under which id."""

    queue: str
    delivery: int
    raw: bytes


@final
class Job(Generic[Result]):
    """One Sidekiq payload: the decoded object, typed views of it, every unknown field kept.

    `Result`, for checkers: what its worker returns; `Any` if that is not known.

    `Job("Ruby::Worker", [1], queue="ruby")` needs no Python worker. Further keyword arguments
    become payload fields as they are. `retry` is the app's unless you say it. `jid` is given by
    the client when the job is enqueued, unless you choose one. `in_s` (seconds from then) or
    `at_s` (epoch seconds) postpone it. Raises ArgumentError when an argument can't travel as JSON.
    `over`: it was run, and that run has ended.
    """

    __slots__ = ("at_s", "in_s", "over", "payload")

    def __init__(
        self,
        class_: str,
        args: Sequence[Any] = (),
        *,
        queue: str = "default",
        retry: bool | int | None = None,
        in_s: float | None = None,
        at_s: float | None = None,
        **fields: Any,
    ) -> None:
        args = list(args)
        check_args(args)
        if not isinstance(class_, str) or not class_:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"class_={class_!r}: name the class that is to run the job")
        if found := NOT_IN_NAMES.search(class_):
            raise ArgumentError(f"class_={class_!r}: no class is named with {found[0]!r}")
        for name, value in (("retry", retry), ("in_s", in_s), ("at_s", at_s)):
            if value is not None and not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentError(f"{name}={value!r}: give a number; enqueue takes other times")
        self.payload: dict[str, Any] = {"class": class_, "args": args, "queue": queue, **fields}
        if retry is not None:
            self.payload["retry"] = retry
        self.in_s = in_s
        self.at_s = at_s
        self.over = False

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Job[Any]:
        """Wrap an already decoded payload, unchecked and uncopied."""
        job: Job[Any] = cls.__new__(cls)
        job.payload = payload
        job.in_s = job.at_s = None
        job.over = False
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
        """What is no text names no queue."""
        name = self.payload.get("queue")
        return name if name and type(name) is str else "default"

    @property
    def extras(self) -> dict[str, Any]:
        """The fields that neither Sidekiq nor kiqpy gives a meaning."""
        return {k: v for k, v in self.payload.items() if k not in _FIELDS}

    @property
    def attempt(self) -> int:
        """1 for the first run, 2 for the first retry; starts after a crash do not count."""
        return self.retry_count + 2

    @property
    def retry_count(self) -> int:
        """Failures so far less one, as Sidekiq counts: -1 before the first."""
        return _whole(self.payload.get("retry_count"), -1)

    @property
    def recovered(self) -> int:
        """How often the job was started again because its process had died."""
        return _whole(self.payload.get("recovered"), 0)

    @property
    def enqueued_at(self) -> float | None:
        """Epoch seconds of the last push to a queue, whichever unit the writer used."""
        return seconds(self.payload.get("enqueued_at"))

    @property
    def expires_at(self) -> float | None:
        """Epoch seconds after which the job is not started any more."""
        return seconds(self.payload.get("expires_at"))

    def __repr__(self) -> str:
        return f"<Job {self.class_} jid={self.jid or None} queue={self.queue}>"


def _whole(value: object, otherwise: int) -> int:
    """A count, unless it is none: another type, or too large to have been counted."""
    return value if type(value) is int and -_NEVER < value < _NEVER else otherwise


def seconds(stamp: object) -> float | None:
    """A payload's time as epoch seconds: Sidekiq 8 writes integer ms, 6 and 7 float seconds.

    None for what is no time: another type, infinite, or beyond all calendars.
    """
    if type(stamp) not in (int, float) or not -_NEVER < stamp < _NEVER:  # type: ignore[operator]
        return None
    return stamp / 1000 if type(stamp) is int and stamp > 1e11 else float(stamp)  # type: ignore[arg-type]


def decode(raw: bytes) -> Job:
    """The job in `raw`, or DecodeError with the reason; never anything else."""
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
        raise DecodeError("args is not an array", raw)
    return Job.from_payload(payload)


def amend_job(job: Job, raw: bytes, changes: Mapping[str, Any], drop: Sequence[str] = ()) -> bytes:
    """`amend` for `raw` that was read as `job`: a tenth of the work if all fields are new to it."""
    if not job.payload.keys().isdisjoint((*changes, *drop)):
        return json.amend(raw, changes, drop)
    return raw.rstrip()[:-1] + b"," + json.encode(changes)[1:]
