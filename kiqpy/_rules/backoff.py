"""How long a failed job waits for its next attempt: named curves, and a user's own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast

from kiqpy._declare.checks import MAX_DELAY_S, is_async, refuse_generator
from kiqpy._declare.options import BackoffFunction
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill

Rand = Callable[[], float]
_NAME: Final = type.__dict__["__name__"]  # a metaclass may have a property of that name

_MESSAGE_CHARS: Final = 10_000  # Sidekiq's own limit


def sidekiq(count: int, rand: Rand) -> float:
    """Sidekiq's curve: 15 s, 16 s, 31 s, ... 25 retries in about three weeks."""
    return count**4 + 15 + int(rand() * 10) * (count + 1)


_BACKOFFS: Final[Mapping[str, Callable[[int, Rand], float]]] = {
    "sidekiq": sidekiq,
    "kiq": lambda n, rand: n**4 + 15 + 1 + int(rand() * 30) + n + 1,
    "exq": lambda n, rand: (n + 1) ** 4 + 15 + int(rand() * 31) * (n + 2),
    "toniq": lambda n, _rand: 0.25 * (n + 1) ** 4,
    "queuetopia": lambda n, _rand: min(2.0 ** min(n, 20) + 1, 86_400.0),
    "constant": lambda _n, _rand: 15.0,
    "immediate": lambda _n, _rand: 0.0,
}


_RETRIES: Final = 25
_RETRIES_OF: Final = {"toniq": 5}  # curves that are meant for fewer


def default_retries(backoff: str | BackoffFunction, job: Job) -> int:
    """How many retries `retry=True` stands for: those of the curve."""
    name = own(job, "backoff", backoff)
    return _RETRIES_OF.get(name, _RETRIES) if isinstance(name, str) else _RETRIES


def check_backoff(backoff: object) -> None:
    """Raise ConfigError unless it names a known curve or is a plain function."""
    if is_async(backoff):
        raise ConfigError(f"backoff={backoff!r}: give a plain function, it can't be awaited there")
    if not callable(backoff) and not (isinstance(backoff, str) and backoff in _BACKOFFS):
        raise ConfigError(
            f"backoff={backoff!r}: give a callable(count, error, job) or one of "
            + ", ".join(sorted(_BACKOFFS))
        )
    refuse_generator(f"backoff={backoff!r}", backoff)


def delay(
    backoff: str | BackoffFunction, count: int, error: BaseException, job: Job, rand: Rand
) -> tuple[float | Discard | None, str]:
    """Seconds until the next attempt (None: to the dead set), and what is wrong with the backoff.

    If the user's function raises or returns no delay, Sidekiq's curve applies.
    """
    backoff = own(job, "backoff", backoff)
    if isinstance(backoff, str):
        return float(_BACKOFFS.get(backoff, sidekiq)(count, rand)), ""
    try:
        answer = backoff(count, error, job)
        if answer is Discard or isinstance(answer, Discard):
            return Discard(), ""
        if answer is Kill or isinstance(answer, Kill):
            return None, ""
        if isinstance(answer, timedelta):
            answer = answer.total_seconds()
        if isinstance(answer, bool) or not isinstance(answer, int | float) or answer != answer:
            raise TypeError(f"backoff answered {answer!r}: give seconds, Discard or Kill")
        return max(0.0, float(answer)), ""
    except BaseException as broken:  # the user's function; neither job nor process pays for it
        return float(sidekiq(count, rand)), f"{class_name(broken)}: {message(broken)}"


def own(job: Job, name: str, default: Any) -> Any:
    """What `using(...)` has set for this one job; it travels in the field `kiq`."""
    own = job.payload.get("kiq")
    given: Any = cast("dict[str, Any]", own).get(name) if isinstance(own, dict) else None
    return default if given is None else given


def timeout_of(job: Job, default: float | None) -> float | None:
    """Seconds that the job may take: those of `using(timeout=...)`, else the default."""
    if "kiq" not in job.payload:
        return default
    value = own(job, "timeout", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return default
    return float(min(value, MAX_DELAY_S))


def longest_delay(job: Job) -> float:
    """How long the job may wait for a retry at most: as long as its lane allows, in seconds."""
    value = own(job, "max_backoff", MAX_DELAY_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return MAX_DELAY_S
    return float(min(value, MAX_DELAY_S))


def message(error: BaseException) -> str:
    """The message of an error with its notes: bounded, valid UTF-8. Never raises."""
    try:
        text = "\n".join([str(error), *map(str, getattr(error, "__notes__", ()))])
    except BaseException:  # user code again
        return "(the error's message could not be read)"
    return utf8(text[:_MESSAGE_CHARS])


def class_name(error: BaseException) -> str:
    """The name of an error's class, without characters that web pages take for HTML."""
    return shown(_NAME.__get__(type(error)))


def shown(text: str) -> str:
    """Valid UTF-8 without "<" and ">": Sidekiq's web pages show it unescaped."""
    return utf8(text.replace("<", "(").replace(">", ")"))


def utf8(text: str) -> str:
    """The text with "?" for what UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
