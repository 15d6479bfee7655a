"""The last stage: settles what has ended, batch by batch, and only then tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, final

from kiqpy._declare.sources import ClaimSource
from kiqpy._flow.edge import Edge
from kiqpy._flow.pages import pages
from kiqpy._flow.pause import ExponentialBackoff
from kiqpy._reporting.dispatcher import ReporterDispatcher
from kiqpy._reporting.event_queue import EventQueue
from kiqpy._rules.decide import after_failure, decide
from kiqpy._rules.effects import DEFAULT_EFFECTS, EffectsOf
from kiqpy._stages.settlement import Settlement
from kiqpy.clock import Clock
from kiqpy.errors import StoreError, StoreUnavailable
from kiqpy.event import (
    Event,
    JobAborted,
    JobBackoffRefused,
    JobCancelled,
    JobDead,
    JobFailure,
    JobFenced,
    JobRetried,
    JobSnoozed,
    JobStopped,
    JobSuccess,
)
from kiqpy.job import Job
from kiqpy.outcome import (
    Aborted,
    Bury,
    Cancelled,
    Failure,
    Released,
    Retry,
    Snoozed,
    Success,
    Verdict,
)
from kiqpy.store import Frame, Source, VerdictsRefused

_MAX_VERDICTS_PER_FRAME: Final = 500  # well under 5 ms of the store's time
_MAX_BYTES_PER_FRAME: Final = 2**20  # of payloads that are sent anew; one may be larger


@final
class Settler:
    """Group commit: what piled up while the last frame was under way is the next frame.

    Credit goes back when a frame leaves, so that the next fetch is on its way together with it; but
    not while a reporter is behind. So a store or a reporter that blocks stops the fetching one
    frame later, and only that: what has run is settled all the same. With one slot it goes back
    last: there the next job starts when the one before is settled and reported.

    A frame that the store takes only in part (a key of another type is in the way) is sent again
    until it takes all of it, and `on_error` is called: its queue stands still meanwhile. Then
    `on_recovery` is called.
    """

    def __init__(
        self,
        store: Source,
        dispatcher: ReporterDispatcher,
        clock: Clock,
        source: ClaimSource,
        event_queue: EventQueue,
        effects_of: Sequence[EffectsOf] = DEFAULT_EFFECTS,
        on_error: Callable[[str, StoreError], None] = lambda _queue, _error: None,
        on_recovery: Callable[[str], None] = lambda _queue: None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._source = source
        self._event_queue = event_queue
        self._effects_of = effects_of
        self._on_error = on_error
        self._on_recovery = on_recovery

    async def run(self, inlet: Edge[Settlement] | None, outlet: Edge[Any] | None) -> None:
        assert inlet is not None
        assert outlet is None
        while (batch := await inlet.get()) is not None:
            for part in _by_queue(batch):
                for page in _frames(part):
                    await self._commit(page, inlet)

    async def _commit(self, page: list[Settlement], inlet: Edge[Settlement]) -> None:
        early = self._event_queue.idle() and inlet.width() > 1
        if early:
            inlet.done(len(page))
        events = await self._settle(page[0].claim.queue, page)
        self._event_queue.add(events, inlet, 0 if early else len(page))

    async def _settle(self, queue: str, batch: list[Settlement]) -> list[Event]:
        now, rand, effects_of = self._clock.now(), self._clock.random, self._effects_of
        verdicts = [
            decide(s.claim, s.job, s.outcome, s.rules, now, rand, effects_of) for s in batch
        ]
        kept = await self._until_settled(self._store.frame(queue, verdicts))
        self._source.settled(queue, [verdict.delivery for verdict in verdicts])
        return self._events(batch, verdicts, kept)

    async def _until_settled(self, frame: Frame[Verdict]) -> list[bool]:
        backoff, refused = ExponentialBackoff(self._clock), False
        while True:
            try:
                kept = await self._store.settle(frame)
            except StoreUnavailable:
                await backoff.pause()
            except VerdictsRefused as error:
                refused = True
                self._on_error(frame.source, error)
                await backoff.pause()
            else:
                if refused:
                    self._on_recovery(frame.source)
                return kept

    def _events(
        self, batch: list[Settlement], verdicts: list[Verdict], kept: list[bool]
    ) -> list[Event]:
        """The events to emit; an event without a listener is not created."""
        heard = {of for of, kind in _KINDS.items() if self._dispatcher.has_listeners(kind)}
        stopped = self._dispatcher.has_listeners(JobStopped)
        events: list[Event] = []
        for settlement, verdict, owned in zip(batch, verdicts, kept, strict=True):
            job, outcome = settlement.job, type(settlement.outcome)
            if outcome is Failure and not isinstance(verdict, Retry):
                job = _final(settlement, verdict)
            if owned and not stopped and outcome is not Failure and outcome not in heard:
                continue
            if not owned:
                events.append(JobFenced(job, settlement.claim.queue))
                continue
            if job is not None and outcome in heard:
                events.append(_told(settlement, job, verdict))
            if isinstance(settlement.outcome, Failure):
                events += _aftermath(job, settlement.outcome.error, verdict)
            if stopped and job is not None:
                events.append(JobStopped(job))
        return events


def _frames(part: list[Settlement]) -> Iterable[list[Settlement]]:
    """Parts that a frame each can settle; what goes back to the queue last, the oldest at the end.

    The oldest is the next to run then, although each goes back in front of those before it.
    """
    size = sum([len(settlement.claim.raw) for settlement in part])
    if len(part) <= _MAX_VERDICTS_PER_FRAME and size <= _MAX_BYTES_PER_FRAME:
        return (part,)
    in_order = sorted(part, key=_place_of)
    return pages(in_order, _MAX_VERDICTS_PER_FRAME, _MAX_BYTES_PER_FRAME, _size_of)


def _place_of(settlement: Settlement) -> tuple[bool, int]:
    back = isinstance(settlement.outcome, Released)
    return back, -settlement.claim.delivery if back else 0


def _size_of(settlement: Settlement) -> int:
    """How many bytes its verdict may send: an ack or a release sends none."""
    bare = isinstance(settlement.outcome, Success | Released)
    return 0 if bare else len(settlement.claim.raw)


def _by_queue(batch: list[Settlement]) -> list[list[Settlement]]:
    """A frame settles claims of one queue; only queues that share a limit come mixed."""
    if len({settlement.claim.queue for settlement in batch}) == 1:
        return [batch]
    parts: dict[str, list[Settlement]] = {}
    for settlement in batch:
        parts.setdefault(settlement.claim.queue, []).append(settlement)
    return list(parts.values())


_KINDS: Final[dict[type, type[Event]]] = {
    Success: JobSuccess,
    Aborted: JobAborted,
    Snoozed: JobSnoozed,
    Failure: JobFailure,
    Cancelled: JobCancelled,
}


def _aftermath(job: Job | None, error: BaseException, verdict: Verdict) -> Iterator[Event]:
    """Further events about a failure."""
    if isinstance(verdict, Bury):
        yield JobDead(job, error, verdict.payload)
    elif isinstance(verdict, Retry) and job is not None:
        yield JobRetried(job, error, verdict.in_s)
        if verdict.trouble:
            yield JobBackoffRefused(job, verdict.trouble)


def _final(settlement: Settlement, verdict: Verdict) -> Job | None:
    """The job that failed for the last time, with what is kept of it."""
    job, outcome = settlement.job, settlement.outcome
    if job is None or not isinstance(outcome, Failure):
        return job
    return after_failure(job, outcome.error, verdict, settlement.rules, settlement.ended_at)


def _told(settlement: Settlement, job: Job, verdict: Verdict) -> Event:
    took_s = settlement.took_s
    match settlement.outcome:
        case Success() | Released():
            return JobSuccess(job, took_s, settlement.waited_s())
        case Aborted(reason):
            return JobAborted(job, reason, took_s)
        case Snoozed(in_s):
            return JobSnoozed(job, in_s)
        case Cancelled(keep):
            return JobCancelled(job, keep)
        case Failure(error):
            again_s = verdict.in_s if isinstance(verdict, Retry) else None
            return JobFailure(job, error, took_s, again_s)
