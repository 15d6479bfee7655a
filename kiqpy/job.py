"""Where every job begins and ends: Sidekiq's JSON payload, read strictly and changed sparingly.

A payload that passes through kiqpy keeps each field it came with, known or not. When a retry or a
rescue must change a few fields, the text of all others is spliced in unchanged, `args` above all:
Ruby's 30-digit integers and another client's spacing come out as they went in.
"""

from __future__ import annotations

import base64
import json
import json.decoder
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, final

from kiqpy.arguments import check_args
from kiqpy.errors import ArgumentError, DecodeError

_fast: Callable[[bytes], Any] | None
_write: Callable[[Any], bytes] | None
try:
    import msgspec  # not orjson, which makes floats of integers beyond 64 bit
except ImportError:
    _fast = _write = None
else:
    _fast, _write = msgspec.json.Decoder[Any]().decode, msgspec.json.Encoder().encode

# There, but not in the stubs.
_scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_NEVER: Final = 1e14
_FIELDS: Final = frozenset((
    "class", "args", "jid", "queue", "retry", "created_at", "enqueued_at", "at", "retry_for",
    "retry_queue", "dead", "backtrace", "tags", "error_message", "error_class", "error_backtrace",
    "retry_count", "failed_at", "retried_at", "expires_in", "expires_at", "unique_for",
    "unique_until", "unique_token", "unlocks_at", "recovered", "recovered_at", "kiq", "periodic",
    "tick_at",
))  # fmt: skip
_PLAIN: Final[frozenset[object]] = frozenset((str, int, bool, type(None)))
_SPACE = re.compile(r"[ \t\n\r]*")

# To narrow with them leaves checkers no unknown type.
_Object: Final[type[dict[Any, Any]]] = dict
_Array: Final[type[list[Any]]] = list


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_sorting = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":"))


class Claim(NamedTuple):
    """A job that this process owns until it is settled: its exact bytes, and under which id."""

    queue: str
    delivery: int
    raw: bytes


@final
class Job:
    """One Sidekiq payload: the decoded object, typed views of it, every unknown field kept.

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
    def from_payload(cls, payload: dict[str, Any]) -> Job:
        """Wrap an already decoded payload, unchecked and uncopied."""
        job = cls.__new__(cls)
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
        return str(self.payload.get("queue") or "default")

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


def _read(raw: bytes) -> Any:
    """The value of JSON. What the faster reader refuses, the standard library's judges."""
    if _fast is not None:
        try:
            return _fast(raw)
        except Exception:  # its errors have no common root with json's
            pass
    text = raw.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def decode(raw: bytes) -> Job:
    """The job in `raw`, or DecodeError with the reason; never anything else."""
    try:
        payload = _read(raw)
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


def parse(raw: bytes) -> Any:
    """What the JSON in `raw` says; None if it is none. For what is no job."""
    try:
        return _read(raw)
    except (ValueError, RecursionError):
        return None


def encode(payload: Mapping[str, Any], *, checked: bool = False) -> bytes:
    """The payload as strict, compact UTF-8 JSON; ArgumentError names what does not fit.

    `checked`: its `args` have passed `check_args`, so that the faster writer may be used.
    """
    if checked and _write is not None and _is_plain(payload):
        try:
            return _write(payload)
        except Exception:  # its errors have no common root with json's
            pass
    try:
        return _encoder.encode(payload).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"the job can't be written as JSON: {error}") from None


def _is_plain(payload: Mapping[str, Any]) -> bool:
    """Whether the faster writer writes it as the other one does: it has wider tastes."""
    for name, value in payload.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is float:
            if value - value != 0:
                return False
        elif kind not in _PLAIN and name != "args":
            return False
    return True


def canonical(value: object) -> bytes:
    """JSON that is equal for equal values; for digests."""
    return _sorting.encode(value).encode()


def pack_lines(lines: Sequence[str]) -> str:
    """Lines as Sidekiq keeps a backtrace: base64 of zlib of a JSON array."""
    return base64.b64encode(zlib.compress(_encoder.encode(list(lines)).encode())).decode()


def amend(raw: bytes, changes: Mapping[str, Any], drop: Sequence[str] = ()) -> bytes:
    """`raw` with some fields set or dropped and the text of all others exactly as it was.

    `raw` must have passed `decode`. Of a field written twice the last one stays, as when reading.
    """
    fields = split(raw.decode())
    fields.update({name: _encoder.encode(value) for name, value in changes.items()})
    kept = (f"{json.dumps(k)}:{v}" for k, v in fields.items() if k not in drop)
    return ("{" + ",".join(kept) + "}").encode()


def amend_job(job: Job, raw: bytes, changes: Mapping[str, Any], drop: Sequence[str] = ()) -> bytes:
    """`amend` for `raw` that was read as `job`: a tenth of the work if all fields are new to it."""
    if not job.payload.keys().isdisjoint((*changes, *drop)):
        return amend(raw, changes, drop)
    return raw.rstrip()[:-1] + b"," + _encoder.encode(changes).encode()[1:]


def split(text: str) -> dict[str, str]:
    """Each top-level field of a JSON object with the text of its value."""
    fields: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        name, at = _scan_string(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        end = _end(text, start)
        fields[name] = text[start:end]
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return fields


def _end(text: str, start: int) -> int:
    """Where a value ends; brackets are counted if it is nested too deep for the decoder.

    How deep that is depends on who calls, so that what `decode` has read can be too deep here.
    """
    try:
        return _decoder.raw_decode(text, start)[1]
    except RecursionError:
        depth = 0
        for token in _TOKEN.finditer(text, start):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth == 0:
                return token.end()
        raise


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
