"""Admission: makes of a job what is pushed, in three steps. Pure, but for the middleware.

1. `admit` checks the call and says when the job is due.
2. The client middleware, if there is any, gets a draft of the job; it may change the draft, let
   another job go on instead, or none.
3. `compose` fills in the payload, takes the unique lock's name, checks and encodes.

All ways in take these steps: one job, many, `nowait`, the ticks of periodic jobs, and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, final

from kiqpy._declare.checks import Duration, Instant, duration, instant, queue_name
from kiqpy._intake.lanes import LaneAdmission
from kiqpy._payload.arguments import check_args
from kiqpy._payload.json import encode
from kiqpy._rules.unique import lock_for
from kiqpy.clock import Clock
from kiqpy.errors import ArgumentError
from kiqpy.job import Job
from kiqpy.middleware import ClientChain
from kiqpy.outcome import Lock
from kiqpy.receipt import Receipt
from kiqpy.store import OutgoingJob

# When a job is to run: after so many seconds, or at an epoch second. (None, None): now. If both are
# given, the first counts. A plain tuple, because one is made for each job.
DueTime = tuple[float | None, float | None]


def _of_no_app(_job: Job) -> dict[str, Any]:
    return {}


class AdmissionSettings(NamedTuple):
    """The admission's share of the app's configuration."""

    retry: bool | int = True
    max_payload: int = 2**20  # bytes of the encoded job
    declared: Callable[[Job], Mapping[str, Any]] = _of_no_app  # of the worker of a job by hand
    lanes: LaneAdmission = LaneAdmission()


_DEFAULT: Final = AdmissionSettings()


def admit(job: Job, in_: Duration | None = None, at: Instant | None = None) -> DueTime:
    """When the job is due: as the call says, or else as the job says.

    Raises ArgumentError if `job` is no Job, or both times are given; ConfigError for a time that
    is none.
    """
    if not isinstance(job, Job):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"enqueue takes a job, not {job!r}: make one with worker.new(...)")
    if in_ is None and at is None:
        return job.in_s, job.at_s
    if in_ is not None and at is not None:
        raise ArgumentError("give in_ or at, not both")
    if in_ is not None:
        return duration("in_", in_), None
    return None, instant("at", at)


def draft(
    job: Job, due: DueTime, new_jid: Callable[[], str], settings: AdmissionSettings = _DEFAULT
) -> Job:
    """A copy that middleware may change, with its jid and due time. `args` is copied, too."""
    if job.assumed is not None:
        job = job.completed(settings.declared(job))
    copy = Job.from_payload({**job.payload, "args": list(job.args)})
    copy.payload["jid"] = job.jid or new_jid()
    copy.in_s, copy.at_s = due
    copy.live = job.live
    return copy


def compose(
    job: Job, due: DueTime, now: float, settings: AdmissionSettings, new_jid: Callable[[], str]
) -> OutgoingJob:
    """The job as it is pushed; `job` itself is not changed.

    `now` is in epoch seconds; `new_jid` is called for a job without a jid. Raises ArgumentError
    for arguments that JSON would not preserve and for a payload above `max_payload`, ConfigError
    for a queue that cannot be named so.
    """
    in_s, at_s = due
    if in_s is not None:
        at_s = None
        if in_s <= 0:
            in_s = None
    elif at_s is not None and at_s <= now:
        at_s = None
    if job.assumed is not None:
        job = job.completed(settings.declared(job))
    payload = dict(job.payload)
    jid = payload["jid"] = payload.get("jid") or new_jid()
    lane = ""
    must = settings.lanes.queues
    if "lane" in payload or (must and job.queue in must):
        lane = settings.lanes.enter(payload, now + in_s if in_s is not None else at_s)
    payload.setdefault("retry", settings.retry)
    payload.setdefault("created_at", now)
    if at_s is None and in_s is None:
        payload["enqueued_at"] = now
    lock: Lock | None = None
    if "expires_in" in payload or "unique_for" in payload:
        lock = _add_limits(payload, now, at_s - now if at_s is not None else in_s or 0.0)
    as_usual = check_args(job.args)
    raw = encode(payload, checked=as_usual)
    if len(raw) > settings.max_payload:
        raise _too_long(len(raw), settings.max_payload)
    live = job.live
    if live is not None and live.wire != job.args:  # a middleware has changed them
        live = None
    return OutgoingJob(queue_name(job.queue), str(jid), raw, in_s, at_s, lock, lane, live=live)


def _add_limits(payload: dict[str, Any], now: float, wait_s: float) -> Lock | None:
    """Add when the job expires and what locks it; both count from when it is due."""
    if isinstance(expires_in := payload.get("expires_in"), int | float):
        payload["expires_at"] = now + wait_s + expires_in
    return lock_for(payload, now, wait_s) if "unique_for" in payload else None


def _too_long(size: int, limit: int) -> ArgumentError:
    return ArgumentError(
        f"the job is {size:,} bytes, more than max_payload={limit:,}: pass a reference instead "
        "of the data"
    )


@final
class Admission:
    """The three steps, with one app's settings, clock and client middleware.

    The result is what is to be pushed; or, if a middleware let nothing go on, a receipt that says
    `halted`. What a middleware raises is raised. Nothing is kept here: a job that was admitted
    and is not pushed is gone.
    """

    def __init__(
        self, settings: AdmissionSettings, clock: Clock, middleware: ClientChain | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._middleware = middleware
        self._new_jid = partial(clock.token, 12)

    async def __call__(
        self, job: Job, in_: Duration | None = None, at: Instant | None = None
    ) -> OutgoingJob | Receipt:
        """Admit one job. Cancel: nothing has happened, but for what a middleware did."""
        due = admit(job, in_, at)
        if self._middleware is None:
            return self._compose(job, due)
        copy = draft(job, due, self._new_jid, self._settings)
        return self._passed(copy, await self._middleware(copy))

    def at_once(
        self, job: Job, in_: Duration | None = None, at: Instant | None = None
    ) -> OutgoingJob | Receipt:
        """The same for code that can't await. LifecycleError if a middleware has to wait."""
        due = admit(job, in_, at)
        if self._middleware is None:
            return self._compose(job, due)
        copy = draft(job, due, self._new_jid, self._settings)
        return self._passed(copy, self._middleware.run_sync(copy))

    async def many(self, jobs: Iterable[Job]) -> list[OutgoingJob | Receipt]:
        """Admit each, in order; if one is refused, its error is raised."""
        if self._middleware is None:  # without a coroutine for each
            return [self._compose(job, admit(job)) for job in jobs]
        return [await self(job) for job in jobs]

    def _compose(self, job: Job, due: DueTime) -> OutgoingJob:
        return compose(job, due, self._clock.now(), self._settings, self._new_jid)

    def _passed(self, copy: Job, job: Job | None) -> OutgoingJob | Receipt:
        """What the middleware let go on, which may be another job."""
        if job is None:
            return Receipt(copy.jid, "halted")
        return self._compose(job, (job.in_s, job.at_s))
