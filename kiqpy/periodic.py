"""Jobs that come by the clock: when each is due, and which of the ticks that were missed count."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict, cast, final

from kiqpy._cron.crontab import Crontab, read
from kiqpy._cron.timetable import FixedTimes, Interval, Timetable, WallClockTimes, Zone
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
        tz: str
        name: str | None
        every: Duration | None
        misfire: Misfire
        misfire_grace: Duration | None
        jitter: Duration | None
        enabled: bool


Misfire = Literal["one", "skip", "all"]

MOST: Final = 1_000  # ticks that misfire="all" makes good
COUNTED: Final = 10_000  # no longer list of ticks is made, and nothing is counted any further
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
_SKIP_S: Final = 60.0  # how late a tick may be with misfire="skip"
_DAY_S: Final = 86_400
_EXAMPLE: Final = 'give Periodic("*/5 * * * *", worker), or ("*/5 * * * *", worker, {options})'


class DueTicks(NamedTuple):
    """The ticks to enqueue, oldest first, and how many older ones are not (10,000: or more)."""

    ticks: Sequence[float]
    left_out: int


@final
@dataclass(frozen=True, slots=True, init=False)
class Periodic:
    """A job that the clock enqueues, once per tick however many processes run.

    `Periodic("*/5 * * * *", cleanup, args=[7])`, or `Periodic(worker=cleanup, every=30)`.
    Durations are seconds or timedeltas: `every` (1 or more, counted from the epoch),
    `misfire_grace` (how late a tick may be), `jitter` (each tick is delayed by up to that).
    Raises ConfigError, which names the field of the expression that is wrong and what it takes;
    ArgumentError if `args` do not fit the worker.
    """

    cron: str | None
    every: float | None
    worker: Any
    args: tuple[Any, ...]
    queue: str
    tz: str
    name: str  # by which it is known in Redis: equal names are one periodic
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
        tz: str = "UTC",
        name: str | None = None,
        every: Duration | None = None,
        misfire: Misfire = "one",
        misfire_grace: Duration | None = None,
        jitter: Duration | None = None,
        enabled: bool = True,
    ) -> None:
        every_s = optional_duration("every", every, least=1.0)
        job = _job(worker, args, queue, retry)
        given: dict[str, Any] = {
            "cron": cron,
            "every": every_s,
            "worker": worker,
            "args": tuple(args),
            "queue": job.queue,
            "tz": tz,
            "misfire": _check_misfire("misfire", misfire),
            "misfire_grace": optional_duration("misfire_grace", misfire_grace, least=1.0),
            "jitter": optional_duration("jitter", jitter),
            "enabled": enabled,
            "_job": job,
            "_times": _timetable(cron, every_s, tz),
        }
        for attribute, value in given.items():
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "name", _name(name) or self._default_name())

    def _default_name(self) -> str:
        zone = "" if self.tz == "UTC" else f" {self.tz}"
        return f"{self._job.class_} {self.text}{zone}"

    @property
    def text(self) -> str:
        """When, in words: the expression as it was given, or the interval."""
        return f"every {self.every:g}s" if self.cron is None else self.cron

    def next(self, after_s: float) -> float:
        """The first tick after an instant; both in epoch seconds."""
        return self._times.next(after_s)

    def ticks(self, after_s: float, until_s: float) -> Sequence[float]:
        """All ticks in (after_s, until_s], in epoch seconds; no more than the first 10,000."""
        return list(islice(self._until(after_s, until_s), COUNTED))

    def _until(self, after_s: float, until_s: float) -> Iterator[float]:
        return takewhile(lambda at: at <= until_s, self._from(after_s))

    def _from(self, at: float) -> Iterator[float]:
        while True:
            yield (at := self._times.next(at))

    def due(self, last_s: float, now_s: float) -> DueTicks:
        """What to enqueue at `now_s`, if all ticks up to `last_s` have been seen to.

        "one": the latest tick. "skip": the latest, if it is at most 60 s late (`misfire_grace`).
        "all": each, the latest 1,000 at most. With `misfire_grace` none that is later than that.
        """
        if self._times.next(last_s) > now_s:
            return DueTicks((), 0)
        grace_s = _SKIP_S if self.misfire == "skip" else None
        grace_s = self.misfire_grace if self.misfire_grace is not None else grace_s
        since = last_s if grace_s is None else max(last_s, now_s - grace_s)
        ticks = self._latest(since, now_s, MOST if self.misfire == "all" else 1)
        older = takewhile(lambda at: not ticks or at < ticks[0], self._until(last_s, now_s))
        return DueTicks(ticks, sum(1 for _ in islice(older, COUNTED)))

    def _latest(self, after_s: float, until_s: float, count: int) -> Sequence[float]:
        """The last ticks in (after_s, until_s]: looked for in longer and longer spans."""
        span_s = 60.0
        while True:
            start = max(after_s, until_s - span_s)
            found = list(self._until(start, until_s))
            if len(found) >= count or start == after_s:
                return found[-count:]
            span_s *= 4

    def new(self, tick_s: float | None = None) -> Job:
        """A job for one tick, which it names as `tick_at`; without one for an extra run."""
        tick = {} if tick_s is None else {"tick_at": tick_s}
        return Job.from_payload({**self._job.payload, "periodic": self.name, **tick})


def declared(_option: str, value: object) -> tuple[Periodic, ...]:
    """What a user wrote as `periodics`, read; no name twice."""
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
        raise ConfigError(f"periodics: {item!r} is none: {_EXAMPLE}")
    given = dict(cast("Mapping[str, Any]", parts[2]))
    for name in given:
        refuse_unknown(name, _OPTIONS, {}, {}, "option of a periodic")
    return Periodic(parts[0], parts[1], **given)


@final
class _Wall:
    """The wall times of an expression: croniter knows the days, each day has the same times."""

    def __init__(self, crontab: Crontab) -> None:
        self._days = None if crontab.days == "* * *" else _days(crontab.days)
        self._times = array(
            "l",
            (
                hour * 3600 + minute * 60 + second
                for hour in crontab.hours
                for minute in crontab.minutes
                for second in crontab.seconds
            ),
        )
        self._asked = self._found = -1

    def next(self, after: int) -> int:
        day, time = divmod(after + 1, _DAY_S)
        at = bisect_left(self._times, time)
        if at == len(self._times) or self._day(day) != day:
            return self._day(day + (at == len(self._times))) * _DAY_S + self._times[0]
        return day * _DAY_S + self._times[at]

    def _day(self, day: int) -> int:
        """The first day, counted from the epoch's, that is not before `day`."""
        if self._days is None:
            return day
        if not self._asked <= day <= self._found:
            found = self._days.get_next(float, start_time=float(day * _DAY_S - 1))
            self._asked, self._found = day, int(found) // _DAY_S
        return self._found


def _days(text: str) -> Any:
    from croniter import croniter  # an expensive import, only for periodics

    return croniter("0 0 " + text, 0.0, max_years_between_matches=30)


@lru_cache(maxsize=512)
def _timetable(cron: str | None, every_s: float | None, tz: str) -> Timetable:
    if every_s is not None:
        if cron is not None or tz != "UTC":
            raise ConfigError(f"every={every_s:g}: it takes the place of cron, and knows no tz")
        return Interval(every_s)
    if not isinstance(cron, str):
        raise ConfigError(f'cron={cron!r}: give an expression such as "*/5 * * * *", or every=...')
    zone, crontab = Zone(tz), read(cron)
    wall = _wall(cron, crontab)
    return WallClockTimes(wall, zone) if crontab.follows_clock else FixedTimes(wall, zone)


def _wall(text: str, crontab: Crontab) -> _Wall:
    wall = _Wall(crontab)
    try:
        wall.next(0)
    except ValueError as error:  # the root of croniter's errors
        day, month, _ = crontab.days.split()
        raise ConfigError(
            f"{text}: no day is ever like that (day {day} of month {month})"
        ) from error
    return wall


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
