"""Periodic jobs: when each is due, and which missed ticks are still enqueued."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict, cast, final

from kiqpy._cron.crontab import Crontab, read
from kiqpy._cron.timetable import FixedTimes, Interval, Timetable, WallClockTimes, Zone, zone_name
from kiqpy._declare.checks import Duration, one_of, optional_duration, queue_name, retry_limit
from kiqpy._declare.options import refuse_unknown
from kiqpy.errors import ConfigError
from kiqpy.job import Job

if TYPE_CHECKING:
    from kiqpy.worker import AnyWorker

    class PeriodicOptions(TypedDict, total=False):
        """The third item of a periodic that is declared as a tuple; see `Periodic`."""

        args: Sequence[Any]
        queue: str | None
        retry: bool | int | None
        tz: str | tzinfo
        name: str | None
        every: Duration | None
        misfire: Misfire
        misfire_grace: Duration | None
        jitter: Duration | None
        enabled: bool


Misfire = Literal["one", "skip", "all"]

MAX_CAUGHT_UP: Final = 1_000  # missed ticks that misfire="all" enqueues
MAX_COUNTED: Final = 10_000  # ticks that are listed or counted
_check_misfire: Final = one_of("one", "skip", "all")
_OPTIONS: Final = (
    "args",
    "queue",
    "retry",
    "tz",
    "name",
    "every",
    "misfire",
    "misfire_grace",
    "jitter",
    "enabled",
)
_SKIP_GRACE_S: Final = 60.0  # how late a tick may be with misfire="skip"
_DAY_S: Final = 86_400
_MAX_GAP_YEARS: Final = 40  # a fifth Friday in February: 28 years, and 40 around 2100
_NO_DAY: Final = sys.maxsize
_EXAMPLE: Final = 'give Periodic("*/5 * * * *", worker), or ("*/5 * * * *", worker, {options})'


class DueTicks(NamedTuple):
    """The ticks to enqueue, oldest first. `left_out`: how many older ones are not enqueued.

    A `left_out` of `MAX_COUNTED` means as many or more.
    """

    ticks: Sequence[float]
    left_out: int

    @property
    def left_out_text(self) -> str:
        """The number in words, which says if there may be more."""
        return f"{self.left_out:,}" + (" or more" if self.left_out >= MAX_COUNTED else "")


@final
@dataclass(frozen=True, slots=True, init=False)
class Periodic:
    """A job that is enqueued at fixed times, once for each tick however many processes run.

    `Periodic("*/5 * * * *", cleanup, args=[7])`, or `Periodic(worker=cleanup, every=30)`.
    Durations are seconds or timedeltas: `every` (at least 1, counted from the epoch),
    `misfire_grace` (how late a tick may be), `jitter` (each job is delayed by up to that). `tz`: a
    name such as "Europe/Paris", or a ZoneInfo. `name` identifies it in Redis: a new name, and a
    name that gets another schedule, begin at that time; ticks before are not made good.
    Raises: ConfigError: names the option, or the field of the expression, and what it takes.
    ArgumentError: `args` do not fit the worker.
    """

    cron: str | None
    every: float | None
    worker: Any
    args: tuple[Any, ...]
    queue: str
    tz: str
    name: str
    misfire: Misfire
    misfire_grace: float | None
    jitter: float | None
    enabled: bool
    _job: Job = field(repr=False, compare=False)
    _times: Timetable = field(repr=False, compare=False)

    def __init__(
        self,
        cron: str | None = None,
        worker: AnyWorker | None = None,
        *,
        args: Sequence[Any] = (),
        queue: str | None = None,
        retry: bool | int | None = None,
        tz: str | tzinfo = "UTC",
        name: str | None = None,
        every: Duration | None = None,
        misfire: Misfire = "one",
        misfire_grace: Duration | None = None,
        jitter: Duration | None = None,
        enabled: bool = True,
    ) -> None:
        every_s = optional_duration("every", every, least=1.0)
        zone = zone_name(tz)
        job = _job(worker, args, queue, retry)
        given: dict[str, Any] = {
            "cron": cron,
            "every": every_s,
            "worker": worker,
            "args": tuple(args),
            "queue": job.queue,
            "tz": zone,
            "misfire": _check_misfire("misfire", misfire),
            "misfire_grace": optional_duration("misfire_grace", misfire_grace, least=1.0),
            "jitter": optional_duration("jitter", jitter),
            "enabled": enabled,
            "_job": job,
            "_times": _timetable(cron, every_s, zone),
        }
        for attribute, value in given.items():
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "name", _name(name) or self._default_name())

    def _default_name(self) -> str:
        zone = "" if self.tz == "UTC" else f" {self.tz}"
        return f"{self._job.class_} {self.text}{zone}"

    @property
    def text(self) -> str:
        """The expression as it was given, or the interval in words."""
        return f"every {self.every:g}s" if self.cron is None else self.cron

    @property
    def schedule(self) -> str:
        """Expression and zone: equal for two periodics that are written alike."""
        return f"{' '.join(self.text.lower().split())} {self.tz}"

    def next(self, after_s: float) -> float:
        """The first tick after `after_s`; both in epoch seconds."""
        return self._times.next(after_s)

    def ticks(self, after_s: float, until_s: float) -> Sequence[float]:
        """The ticks in (after_s, until_s], in epoch seconds; at most the first 10,000."""
        return list(islice(self._until(after_s, until_s), MAX_COUNTED))

    def _until(self, after_s: float, until_s: float) -> Iterator[float]:
        return takewhile(lambda at: at <= until_s, self._from(after_s))

    def _from(self, at: float) -> Iterator[float]:
        while True:
            yield (at := self._times.next(at))

    def due(self, last_s: float, now_s: float) -> DueTicks:
        """The ticks to enqueue at `now_s`, if all up to `last_s` are done; epoch seconds.

        misfire="one": the latest tick. "skip": the latest, if it is at most 60 s late, or
        `misfire_grace`. "all": each of the latest 1,000. None is later than `misfire_grace`.
        """
        if self._times.next(last_s) > now_s:
            return DueTicks((), 0)
        grace_s = _SKIP_GRACE_S if self.misfire == "skip" else None
        grace_s = self.misfire_grace if self.misfire_grace is not None else grace_s
        since = last_s if grace_s is None else max(last_s, now_s - grace_s)
        ticks = self._latest(since, now_s, MAX_CAUGHT_UP if self.misfire == "all" else 1)
        older = takewhile(lambda at: not ticks or at < ticks[0], self._until(last_s, now_s))
        return DueTicks(ticks, sum(1 for _ in islice(older, MAX_COUNTED)))

    def _latest(self, after_s: float, until_s: float, count: int) -> Sequence[float]:
        """The last `count` ticks in (after_s, until_s], found by searching ever longer spans."""
        span_s = 60.0
        while True:
            start = max(after_s, until_s - span_s)
            found = list(self._until(start, until_s))
            if len(found) >= count or start == after_s:
                return found[-count:]
            span_s *= 4

    def new(self, tick_s: float | None = None) -> Job:
        """A job for the tick at `tick_s` (its field `tick_at`); None: a job beside all ticks."""
        tick = {} if tick_s is None else {"tick_at": tick_s}
        return Job.from_payload({**self._job.payload, "periodic": self.name, **tick})


def declared(_option: str, value: object) -> tuple[Periodic, ...]:
    """The option `periodics` as a tuple of `Periodic`; ConfigError if a name is there twice."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ConfigError(f"periodics={value!r}: give a list; in it, {_EXAMPLE}")
    found = tuple(_entry(item) for item in cast("Iterable[object]", value))
    names = [entry.name for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'two periodics are called {name!r}: give one of them name="..."')
    return found


def _entry(item: object) -> Periodic:
    if isinstance(item, Periodic):
        return item
    parts: list[Any] = []
    if isinstance(item, tuple | list):
        parts = [*cast("Sequence[Any]", item), dict[str, Any]()]
    if len(parts) not in (3, 4) or not isinstance(parts[2], Mapping):
        raise ConfigError(f"periodics: {item!r} is no periodic: {_EXAMPLE}")
    given = dict(cast("Mapping[str, Any]", parts[2]))
    for name in given:
        refuse_unknown(name, _OPTIONS, {}, {}, "option of a periodic")
    return Periodic(parts[0], parts[1], **given)


@final
class _CronTimes:
    """The wall times of an expression: croniter finds the days; all days have the same times."""

    def __init__(self, crontab: Crontab) -> None:
        self._days = [] if "* * *" in crontab.days else [_Days(days) for days in crontab.days]
        self._times = array(
            "l",
            (
                hour * 3600 + minute * 60 + second
                for hour in crontab.hours
                for minute in crontab.minutes
                for second in crontab.seconds
            ),
        )

    def next(self, after: int) -> int:
        day, time = divmod(after + 1, _DAY_S)
        place = bisect_left(self._times, time)
        if place == len(self._times):  # no more times on that day
            return self._day(day + 1) * _DAY_S + self._times[0]
        if (found := self._day(day)) != day:
            return found * _DAY_S + self._times[0]
        return day * _DAY_S + self._times[place]

    def _day(self, day: int) -> int:
        """The first day from `day` on that counts, in days since the epoch."""
        if not self._days:
            return day
        found = min(days.next(day) for days in self._days)
        if found == _NO_DAY:
            raise ValueError(f"no day counts for {_MAX_GAP_YEARS} years")
        return found


@final
class _Days:
    """The days of one text for croniter, in days since the epoch."""

    def __init__(self, text: str) -> None:
        from croniter import croniter  # deferred: it costs memory, and only periodics need it

        self._croniter: Any = croniter("0 0 " + text, 0.0, max_years_between_matches=_MAX_GAP_YEARS)
        self._from = self._found = -1

    def next(self, day: int) -> int:
        """The first one from `day` on; `_NO_DAY` if there is none within 40 years."""
        if not self._from <= day <= self._found:
            self._from, self._found = day, self._search(day)
        return self._found

    def _search(self, day: int) -> int:
        try:
            found = self._croniter.get_next(float, start_time=float(day * _DAY_S - 1))
        except ValueError:  # the root of croniter's errors
            return _NO_DAY
        return int(found) // _DAY_S


@lru_cache(maxsize=512)
def _timetable(cron: str | None, every_s: float | None, tz: str) -> Timetable:
    if every_s is not None:
        if cron is not None or tz != "UTC":
            raise ConfigError(f"every={every_s:g} replaces cron=, and tz= has no effect on it")
        return Interval(every_s)
    if not isinstance(cron, str):
        raise ConfigError(f'cron={cron!r}: give an expression such as "*/5 * * * *", or every=...')
    zone, crontab = Zone(tz), read(cron)
    times = _cron_times(cron, crontab)
    return WallClockTimes(times, zone) if crontab.follows_clock else FixedTimes(times, zone)


def _cron_times(text: str, crontab: Crontab) -> _CronTimes:
    times = _CronTimes(crontab)
    try:
        times.next(0)
    except ValueError:
        day, month, _ = crontab.days[0].split()
        raise ConfigError(
            f"{text}: no day is ever like that (day {day} of month {month})"
        ) from None
    return times


def _job(worker: Any, args: Any, queue: str | None, retry: bool | int | None) -> Job:
    if not callable(getattr(worker, "new", None)) or not hasattr(worker, "using"):
        raise ConfigError(f"worker={worker!r}: give a @worker function or a Worker class")
    if isinstance(args, str | Mapping) or not isinstance(args, Iterable):
        raise ConfigError(f"args={args!r}: give a list, one item for each parameter")
    changes: dict[str, Any] = {}
    if queue is not None:
        changes["queue"] = queue_name(queue)
    if retry is not None:
        changes["retry"] = retry_limit("retry", retry)
    maker = worker.using(**changes) if changes else worker
    return cast("Job", maker.new(*args))


def _name(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ConfigError(f"name={value!r}: give a text of 1 to 200 characters")
    return value
