"""Writes payloads so that every program on the same Redis can read them.

Sidekiq may be the next to read a job that failed, was snoozed or cancelled. Its poller removes a
job before it parses it, and one odd field makes a web page fail for all jobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from kiqpy._payload.json import amend, encode, is_portable, parse, split, unpack_lines
from kiqpy._rules.backoff import Rand
from kiqpy.job import Job, decode, seconds

SEALED: Final = "kiqpy.Unreadable"  # class of a payload that holds, as text, what is no job
_TEXT_AS_ARGS: Final = re.compile(rb'"args"\s*:\s*"')
_TIMES: Final = ("created_at", "enqueued_at", "failed_at", "retried_at")


def handed_on(
    raw: bytes, job: Job, fields: Mapping[str, Any], rand: Rand, drop: tuple[str, ...] = ()
) -> bytes | None:
    """`raw` with these fields, and with unreadable fields repaired; None if Ruby can't read it.

    A job without a jid gets one, because two equal payloads would be one entry of a sorted set.
    `at` is dropped, because it would send the job back to the schedule.
    """
    readable = _with_args(raw, job) if _TEXT_AS_ARGS.search(raw) else raw
    if readable is None or not is_portable(readable):
        return None
    changes = {**_mended(job, rand), **fields}
    wrong = [name for name in _wrong(job) if name not in changes]
    return amend(readable, changes, ("at", *drop, *wrong))


def _with_args(raw: bytes, job: Job) -> bytes | None:
    """The payload with Verk's arguments, which are text, as the array that all can read.

    None: there is a number among them that is beyond what JSON can say.
    """
    if split(raw.decode())["args"][0] != '"':  # such a field was further inside
        return raw
    try:
        return amend(raw, {"args": job.args})
    except ValueError:
        return None


def _mended(job: Job, rand: Rand) -> dict[str, Any]:
    found: dict[str, Any] = {}
    jid: Any = job.payload.get("jid")
    tags: Any = job.payload.get("tags", [])
    if type(jid) is not str or not jid:
        found["jid"] = str(jid) if type(jid) is int else _new_jid(rand)
    if (named := _texts(tags)) != tags:
        found["tags"] = named
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in cast("list[object]", value)]
    return [] if value is None else [str(value)]


def _wrong(job: Job) -> list[str]:
    """The fields of times and of the backtrace that no reader understands."""
    payload = job.payload
    wrong: list[str] = []
    wrong += (name for name in _TIMES if name in payload and seconds(payload[name]) is None)
    if "error_backtrace" in payload and not unpack_lines(payload["error_backtrace"]):
        wrong.append("error_backtrace")
    return wrong


def _new_jid(rand: Rand) -> str:
    return "".join(f"{int(rand() * 2**32):08x}" for _ in range(3))


def put_apart(payload: bytes, queue: str, rand: Rand) -> bytes | None:
    """A rescued job as it waits in the schedule; None if Ruby's poller would lose it there."""
    return handed_on(payload, decode(payload), {"queue": queue}, rand)


def buried(raw: bytes, queue: str, now: float, rand: Rand) -> bytes:
    """What is kept in the dead set of bytes that are no job: themselves, if pages can show them.

    JSON that is no object takes Sidekiq's page down; it is kept as an argument of a payload, and
    `unsealed` gives it back. Each gets a jid of its own: equal ones would become one in the set.
    """
    value = parse(raw)
    if isinstance(value, dict) or (value is None and raw.strip() != b"null"):
        return raw
    return encode(
        {
            "class": SEALED,
            "args": [raw.decode()],
            "jid": _new_jid(rand),
            "queue": queue,
            "retry": 0,
            "created_at": now,
            "error_class": "kiqpy.DecodeError",
            "error_message": "not a JSON object",
            "retry_count": 0,
            "failed_at": now,
        }
    )


def unsealed(job: Job) -> bytes | None:
    """The bytes that `buried` has put into this payload, if it is one."""
    if job.class_ != SEALED or len(job.args) != 1 or type(job.args[0]) is not str:
        return None
    return job.args[0].encode()
