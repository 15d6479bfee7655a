"""Everything that can be heard: one frozen class for each, with units in the field names."""

from __future__ import annotations

from typing import ClassVar

from kiqpy._record import Record
from kiqpy.job import Job


class Event(Record):
    """Something that has happened. `name` is what `attach` takes."""

    name: ClassVar[str]


class JobEnqueued(Event):
    """A job of this process's client is durable, and was not a duplicate."""

    name: ClassVar[str] = "job.enqueued"
    job: Job
    state: str  # "queued" or "scheduled"


class JobStarted(Event):
    """A run begins; nothing is settled yet."""

    name: ClassVar[str] = "job.started"
    job: Job


class JobSuccess(Event):
    """The job returned, and that is durable."""

    name: ClassVar[str] = "job.success"
    job: Job
    took_s: float
    waited_s: float | None  # enqueue to start


class JobAborted(Event):
    """The job ended without having been done: expired, discarded, halted."""

    name: ClassVar[str] = "job.aborted"
    job: Job
    reason: str
    took_s: float


class JobSnoozed(Event):
    """The job asked to be run again later; no retry was used."""

    name: ClassVar[str] = "job.snoozed"
    job: Job
    in_s: float


class JobFailure(Event):
    """The job failed. `retry_in_s` None: no further try."""

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
    """The job was cancelled; it is dead, or gone if it was not to be kept."""

    name: ClassVar[str] = "job.cancelled"
    job: Job
    kept: bool


class JobBackoffRefused(Event):
    """The worker's own `backoff` raised or answered junk; the default delay was taken."""

    name: ClassVar[str] = "job.backoff_refused"
    job: Job
    error: str


class JobDead(Event):
    """The job went to the dead set; `job` is None when its bytes could not be read."""

    name: ClassVar[str] = "job.dead"
    job: Job | None
    error: BaseException
    raw: bytes


class JobStopped(Event):
    """A run is over, whichever way; always the last event of a run."""

    name: ClassVar[str] = "job.stopped"
    job: Job


class JobFenced(Event):
    """A result came too late: the job had been given to another process, nothing was changed."""

    name: ClassVar[str] = "job.fenced"
    job: Job | None
    queue: str


class JobRecovered(Event):
    """A dead process's job was put back into its queue (`poison`: into the dead set)."""

    name: ClassVar[str] = "job.recovered"
    jid: str
    queue: str
    count: int
    poison: bool


class JobSwallowedCancel(Event):
    """A job went on after it was cancelled; its slot stays taken until it ends."""

    name: ClassVar[str] = "job.swallowed_cancel"
    job: Job
    after_s: float


class JobLeakedTask(Event):
    """A task that a job started has outlived it; `cancelled`: and was told to end."""

    name: ClassVar[str] = "job.leaked_task"
    job: Job
    task: str
    cancelled: bool


class FlushFailed(Event):
    """The client can't reach the store; jobs are kept in memory. Told once an outage."""

    name: ClassVar[str] = "flush.failed"
    error: str
    buffered: int


class JobRefused(Event):
    """The store said no to a job that nobody waits for (`enqueue_nowait`): it is not enqueued."""

    name: ClassVar[str] = "job.refused"
    jid: str
    queue: str
    payload: bytes
    error: str


class FlushRestored(Event):
    """The client reaches the store again."""

    name: ClassVar[str] = "flush.restored"
    away_s: float


class FetchFailed(Event):
    """A queue's jobs can't be claimed, or can't be settled; trying goes on. Told once a cause."""

    name: ClassVar[str] = "fetch.failed"
    queue: str
    error: str


class QueueRunning(Event):
    """A queue that was paused is claimed from again by this process."""

    name: ClassVar[str] = "queue.running"
    queue: str


class QueuePausing(Event):
    """This process claims no more of a paused queue; some of its jobs still run here."""

    name: ClassVar[str] = "queue.pausing"
    queue: str
    running: int


class QueuePaused(Event):
    """No job of a paused queue runs in this process any more."""

    name: ClassVar[str] = "queue.paused"
    queue: str


class QueueRestarted(Event):
    """One of kiqpy's own stages raised; its queue started anew, the others did not notice."""

    name: ClassVar[str] = "queue.restarted"
    queue: str
    error: str
    restarts: int


class ReporterDetached(Event):
    """A reporter raised too often or hung; it hears nothing more, jobs are not affected."""

    name: ClassVar[str] = "reporter.detached"
    reporter: str
    reason: str


class ProcessStarted(Event):
    """The app has started: jobs are taken, and claimed if it is a server."""

    name: ClassVar[str] = "process.started"
    identity: str


class ProcessQuiet(Event):
    """No more jobs are claimed; what runs ends in its own time."""

    name: ClassVar[str] = "process.quiet"
    identity: str


class ProcessStopping(Event):
    """A stop has begun; jobs that run get `grace_s` seconds."""

    name: ClassVar[str] = "process.stopping"
    identity: str
    grace_s: float


class ProcessStopped(Event):
    """The app has stopped and left; always the last event of a process."""

    name: ClassVar[str] = "process.stopped"
    identity: str
    released: int  # jobs pushed back because they outlasted the grace


class LeaseLapsed(Event):
    """Heartbeats failed for longer than the lease: others may take this process's jobs."""

    name: ClassVar[str] = "process.lease_lapsed"
    identity: str


class LeaderElected(Event):
    """This process has become the leader, which saves the others some work."""

    name: ClassVar[str] = "leader.elected"
    identity: str


class LeaderResigned(Event):
    """This process is the leader no longer: it stopped, or could not renew in time."""

    name: ClassVar[str] = "leader.resigned"
    identity: str


class PeriodicEnqueued(Event):
    """A periodic job's tick was enqueued, by this process and no other."""

    name: ClassVar[str] = "periodic.enqueued"
    periodic: str
    jid: str
    tick_at: float  # epoch seconds


class LoopFailed(Event):
    """A round of one of kiqpy's own loops raised; it is tried again, the other loops go on."""

    name: ClassVar[str] = "loop.failed"
    loop: str  # "promote", "rescue", "lead", "cron", "cancel", "leaks", "discover"
    error: str


class LoopLag(Event):
    """The event loop was busy for `lag_s` before it could answer: something blocks it."""

    name: ClassVar[str] = "loop.lag"
    lag_s: float
