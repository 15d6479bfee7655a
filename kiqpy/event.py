"""The events that reporters and handlers get: one frozen class each, units in field names."""

from __future__ import annotations

from typing import ClassVar

from kiqpy._record import Record
from kiqpy.job import Job


class Event(Record):
    """Something that has happened; `attach` takes its `name`."""

    name: ClassVar[str]


class JobEnqueued(Event):
    """This process has enqueued a job: it is stored, and was no duplicate."""

    name: ClassVar[str] = "job.enqueued"
    job: Job
    state: str  # "queued" or "scheduled"


class JobStarted(Event):
    """A run begins."""

    name: ClassVar[str] = "job.started"
    job: Job


class JobSuccess(Event):
    """The job returned, and that is stored."""

    name: ClassVar[str] = "job.success"
    job: Job
    took_s: float
    waited_s: float | None  # from enqueue to start


class JobAborted(Event):
    """The job ended without being done: it expired, was discarded or halted."""

    name: ClassVar[str] = "job.aborted"
    job: Job
    reason: str
    took_s: float


class JobSnoozed(Event):
    """The job asked to run again later, which uses no retry."""

    name: ClassVar[str] = "job.snoozed"
    job: Job
    in_s: float


class JobFailure(Event):
    """The job failed. `retry_in_s` None: it is not retried."""

    name: ClassVar[str] = "job.failure"
    job: Job
    error: BaseException
    took_s: float
    retry_in_s: float | None


class JobRetried(Event):
    """The failed job is in the retry set, due in `in_s` seconds. Follows `job.failure`."""

    name: ClassVar[str] = "job.retried"
    job: Job
    error: BaseException
    in_s: float


class JobCancelled(Event):
    """The job was cancelled. `kept`: it is in the dead set; else it is deleted."""

    name: ClassVar[str] = "job.cancelled"
    job: Job
    kept: bool


class JobBackoffRefused(Event):
    """The worker's `backoff` raised or returned no delay, so the default delay was used."""

    name: ClassVar[str] = "job.backoff_refused"
    job: Job
    error: str


class JobDead(Event):
    """The job went to the dead set. `job` is None if its bytes are unreadable."""

    name: ClassVar[str] = "job.dead"
    job: Job | None
    error: BaseException
    raw: bytes


class JobStopped(Event):
    """A run has ended, in whatever way; always the last event of a run."""

    name: ClassVar[str] = "job.stopped"
    job: Job


class JobFenced(Event):
    """A result came too late and was dropped: another process had got the job meanwhile."""

    name: ClassVar[str] = "job.fenced"
    job: Job | None
    queue: str


class JobRecovered(Event):
    """The job of a dead process went back to its queue, or as `poison` to the dead set."""

    name: ClassVar[str] = "job.recovered"
    jid: str
    queue: str
    count: int
    poison: bool


class JobSwallowedCancel(Event):
    """A job goes on after its cancellation; it keeps its slot until it ends."""

    name: ClassVar[str] = "job.swallowed_cancel"
    job: Job
    after_s: float


class JobLeakedTask(Event):
    """A task outlives the job that started it; told once a place. `cancelled`: kiqpy ends each."""

    name: ClassVar[str] = "job.leaked_task"
    job: Job
    task: str
    place: str  # where the task's code begins: "FILE:LINE in FUNCTION"
    cancelled: bool


class FlushFailed(Event):
    """The client can't reach the store and keeps jobs in memory. Once for each outage."""

    name: ClassVar[str] = "flush.failed"
    error: str
    buffered: int


class JobRefused(Event):
    """The store refused a job of `enqueue_nowait`, so it is not enqueued."""

    name: ClassVar[str] = "job.refused"
    jid: str
    queue: str
    payload: bytes
    error: str


class FlushRestored(Event):
    """The client reaches the store again, after `away_s` seconds."""

    name: ClassVar[str] = "flush.restored"
    away_s: float


class FetchFailed(Event):
    """This process can't claim or settle jobs of a queue; it keeps trying.

    Once for each cause until `fetch.restored`, and not twice in a minute.
    """

    name: ClassVar[str] = "fetch.failed"
    queue: str
    error: str


class FetchRestored(Event):
    """This process claims and settles jobs of a queue again, `away_s` seconds after it failed to.

    `queue`: the same as in `fetch.failed`.
    """

    name: ClassVar[str] = "fetch.restored"
    queue: str
    away_s: float


class QueueRunning(Event):
    """This process claims jobs of a queue again that was paused."""

    name: ClassVar[str] = "queue.running"
    queue: str


class QueuePausing(Event):
    """This process claims no more jobs of a paused queue; some of them still run."""

    name: ClassVar[str] = "queue.pausing"
    queue: str
    running: int


class QueuePaused(Event):
    """No job of a paused queue runs in this process any more."""

    name: ClassVar[str] = "queue.paused"
    queue: str


class QueueRestarted(Event):
    """A stage of kiqpy's own raised; its queue was restarted, other queues are not affected."""

    name: ClassVar[str] = "queue.restarted"
    queue: str
    error: str
    restarts: int


class ReporterDetached(Event):
    """A reporter raised too often or hung; it gets no more events. Jobs are not affected."""

    name: ClassVar[str] = "reporter.detached"
    reporter: str
    reason: str


class ProcessStarted(Event):
    """The app has started and runs jobs. One that only enqueues is no process, and says nothing."""

    name: ClassVar[str] = "process.started"
    identity: str


class ProcessQuiet(Event):
    """The process claims no more jobs; running jobs go on."""

    name: ClassVar[str] = "process.quiet"
    identity: str


class ProcessStopping(Event):
    """A stop has begun; running jobs get `grace_s` seconds."""

    name: ClassVar[str] = "process.stopping"
    identity: str
    grace_s: float


class ProcessStopped(Event):
    """The app has stopped; always the last event of a process."""

    name: ClassVar[str] = "process.stopped"
    identity: str
    released: int  # jobs that went back to their queues because they outlasted the grace


class LeaseLapsed(Event):
    """Heartbeats failed for longer than the lease: other processes may take over the jobs."""

    name: ClassVar[str] = "process.lease_lapsed"
    identity: str


class LeaderElected(Event):
    """This process now enqueues the periodic jobs, for all processes that declare the same."""

    name: ClassVar[str] = "leader.elected"
    identity: str


class LeaderResigned(Event):
    """This process is no longer the leader: it stops, or could not renew in time."""

    name: ClassVar[str] = "leader.resigned"
    identity: str


class PeriodicEnqueued(Event):
    """This process has enqueued a tick of a periodic job; no other process does."""

    name: ClassVar[str] = "periodic.enqueued"
    periodic: str
    jid: str
    tick_at: float  # epoch seconds


class ExecutorExhausted(Event):
    """A job has waited 5 s for a thread or a child process; said once, until no job waits."""

    name: ClassVar[str] = "executor.exhausted"
    executor: str  # "thread" or "process"
    limit: int  # the option `threads` or `processes`
    waiting: int  # jobs that wait now


class LoopFailed(Event):
    """A round of one of kiqpy's own loops failed; it is repeated, other loops go on.

    Told at once if the store refuses what the loop does, and if the store has given it no answer
    for 30 s; each once until the loop succeeds again.
    """

    name: ClassVar[str] = "loop.failed"
    loop: str  # "promote", "rescue", "lead", "cron", "cancel", "leaks", "discover"
    error: str


class LoopLag(Event):
    """The event loop took `lag_s` to answer: something has blocked it.

    What blocked it is known if it still did when the heartbeat looked; no values are shown.
    """

    name: ClassVar[str] = "loop.lag"
    lag_s: float
    by: str | None = None  # a function, such as "Export.perform"
    at: str | None = None  # where it was: "FILE:LINE"
    stack: str | None = None  # from there on, as Python prints it
