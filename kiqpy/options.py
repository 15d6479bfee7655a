"""Every option of an app: its type, its default, and what it is for.

An option is a class attribute of an `App`, or a keyword of its constructor, or set by the hook
`init(config)`; the later counts more. docs/options.md is written from this file.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from types import ModuleType
    from typing import Any, Literal, Protocol, TypedDict

    from kiqpy._declare.checks import Duration
    from kiqpy._declare.options import BackoffFunction, BackoffName
    from kiqpy._declare.sources import QueueSpec
    from kiqpy._spec import Hook
    from kiqpy.job import Job
    from kiqpy.middleware import Next
    from kiqpy.periodic import Periodic, PeriodicOptions
    from kiqpy.reporter import MetricsSink, Reporter
    from kiqpy.worker import AnyWorker

    class Middleware(Protocol):
        """`async def name(job, call_next)`, or an object whose `__call__` is like that."""

        def __call__(self, job: Job, call_next: Next, /) -> Coroutine[Any, Any, Any]: ...

    LogLevel = Literal["debug", "info", "warning", "error", "critical"]
    MiddlewareList = Sequence[Middleware | type[Middleware]]
    PeriodicList = Sequence[
        Periodic | tuple[str | None, AnyWorker] | tuple[str | None, AnyWorker, PeriodicOptions]
    ]
    QueueTable = Mapping[str, int | QueueSpec | None] | Sequence[str | QueueSpec]
    ReporterList = Sequence[Reporter | type[Reporter]]
    SchedulerName = Literal["retry", "schedule"]
    TestMode = Literal["sandbox", "inline", "fake", "redis"]
    Url = str | Callable[[], str | Awaitable[str]]
    WorkerList = Sequence[AnyWorker | ModuleType]


class Declaration:
    """The options of an app as class attributes; what holds in the end is in `app.config`."""

    # -- what the app runs

    queues: ClassVar[QueueTable] = MappingProxyType({"default": 25})
    """The queues that this process works on: each with the number of its jobs that run at a time.

    `None` instead of a number: as many as `max_running` leaves. A list of names gives each queue
    `concurrency`. A `QueueGroup` or a `BlockingQueues` may stand in the list, or under any key of
    the mapping.
    """

    groups: ClassVar[Sequence[QueueSpec]] = ()
    """Queues that share a limit, beside those in `queues`."""

    concurrency: ClassVar[int | None] = 25
    """For `queues` given as a list: how many jobs of each queue run at a time.

    `None`: as many as `max_running` leaves.
    """

    max_running: ClassVar[int] = 10_000
    """How many jobs this process runs at a time, over all queues: it bounds the memory."""

    workers: ClassVar[WorkerList] = ()
    """The workers of the app: `@worker` functions, `Worker` classes, modules that hold them.

    A job is run only if its worker is declared here; nothing is imported by a name from Redis.
    """

    periodics: ClassVar[PeriodicList] = ()
    """The jobs that the clock enqueues: `Periodic(...)`, or a tuple of its arguments.

    At run time `app.cron` lists them and switches them on and off.
    """

    server: ClassVar[bool] = True
    """Whether the app runs jobs. `False`: it only enqueues, and has no lease and no workers."""

    threads: ClassVar[int] = 40
    """How many plain functions (no `async def`) run at a time, each in a thread."""

    processes: ClassVar[int] = 2
    """How many child processes run the jobs of workers with `executor="process"`."""

    # -- the connection

    redis_url: ClassVar[Url | None] = None
    """The server: `redis://`, `rediss://` or `unix://`; or a function, async or not, that says it.

    `None`: what `KIQPY_REDIS_URL` or `REDIS_URL` says, else the embedded server.
    """

    redis_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Further arguments for redis-py's connections, such as `{"socket_timeout": 5}`.

    `socket_timeout`: how many seconds a command may take in all, with the connecting that it may
    need, and the wait for a free connection. What would change replies, or send a command again,
    has no effect (`decode_responses`, `retry_on_timeout`, ...) or is refused.
    """

    namespace: ClassVar[str] = ""
    """A prefix of all keys, up to 64 characters. Empty, so that Sidekiq finds the same keys."""

    pool_size: ClassVar[int] = 5
    """How many connections serve commands. Each waiting queue has one beside them, up to eight."""

    embedded: ClassVar[bool] = True
    """Whether a private server may be started if no URL is given. `False`: that is an error."""

    embedded_dir: ClassVar[str] = ".kiqpy"
    """The folder of the embedded server's data, relative to the working directory."""

    identity: ClassVar[str | None] = None
    """How this process is called in lists; its number and a nonce are added.

    `None`: what `DYNO` says, else the host's name.
    """

    # -- enqueueing

    client_middleware: ClassVar[MiddlewareList] = ()
    """What surrounds each push, outermost first; it may change a job or stop it."""

    flush_interval: ClassVar[Duration] = 0.01
    """How long `enqueue_nowait` lets jobs gather before they are sent."""

    confirm_timeout: ClassVar[Duration] = 5.0
    """How long `enqueue` waits for Redis before it returns a receipt in state `buffered`.

    That concerns the first to notice an outage; while it is known, `enqueue` returns at once.
    """

    push_timeout: ClassVar[Duration] = 10.0
    """How long `enqueue` waits for room in a full buffer before it raises `BufferFull`."""

    buffer_limit: ClassVar[int] = 100_000
    """How many accepted jobs this process keeps while Redis is away."""

    buffer_bytes: ClassVar[int] = 64 * 2**20
    """How many bytes they may take, after compression."""

    on_unflushed: ClassVar[Literal["log", "raise"]] = "log"
    """What `stop` does if accepted jobs could not be sent: log it, or raise `StoreUnavailable`."""

    max_payload: ClassVar[int] = 2**20
    """How many bytes a job may have; more is an `ArgumentError`. Pass a reference instead."""

    # -- running

    middleware: ClassVar[MiddlewareList] = ()
    """What surrounds each attempt at a job, outermost first."""

    timeout: ClassVar[Duration | None] = None
    """How long a job may run, unless its worker says otherwise. `None`: without limit.

    A job that takes longer is cancelled, and has failed.
    """

    shutdown_timeout: ClassVar[Duration] = 25.0
    """How long running jobs get at a stop; those that still run then go back to their queues.

    Below the 30 s after which Kubernetes kills a process.
    """

    leaked_tasks: ClassVar[Literal["cancel", "report", "ignore"]] = "report"
    """What becomes of a task that a job has started and that outlives it.

    `"report"`: the event `job.leaked_task`, once for each place in the code. `"cancel"`: it is
    cancelled, too.
    """

    # -- failing

    retry: ClassVar[bool | int] = True
    """How often a failed job is tried again, unless its worker says otherwise.

    `True`: 25 times. `False`: never, and the job is not kept. 0: never, the job is kept as dead.
    """

    backoff: ClassVar[BackoffName | BackoffFunction] = "sidekiq"
    """How long a failed job waits for its next try: a named curve, or a function.

    The function gets (retries before this one, error, job) and returns seconds, a timedelta,
    `Discard` or `Kill`. The curves are "sidekiq" (15 s, 16 s, 31 s, ... 25 tries in about three
    weeks), "kiq", "exq", "toniq", "queuetopia", "constant" (15 s) and "immediate".
    """

    backtrace: ClassVar[bool | int] = False
    """Whether payloads keep the error's traceback, or that many frames, unless the worker says so.

    The log line of a failure has it in any case.
    """

    death_handlers: ClassVar[Sequence[Hook]] = ()
    """Functions, async or not, that are called with (job, error) after a job's last failure."""

    dead_limit: ClassVar[int] = 10_000
    """How many dead jobs are kept; the oldest go first. 0: none."""

    dead_timeout: ClassVar[Duration] = 180 * 86_400.0
    """How long a dead job is kept: half a year, as Sidekiq does."""

    # -- what happens by time

    schedulers: ClassVar[SchedulerName | Sequence[SchedulerName]] = ("retry", "schedule")
    """Which sets of postponed jobs this process looks after. `[]` leaves both to others."""

    poll_interval: ClassVar[Duration] = 1.0
    """How late a job may be that another program has scheduled; own ones are in time."""

    fetch_interval: ClassVar[Duration] = 0.5
    """How often an idle queue is looked at where the server may not be waited for."""

    heartbeat_interval: ClassVar[Duration] = 5.0
    """How often the process renews its lease: at most half of `lease_ttl`."""

    lease_ttl: ClassVar[Duration] = 30.0
    """How long a process that has fallen silent keeps its jobs.

    Shorter: a crash is noticed sooner. Longer: a slow network is not taken for a crash.
    """

    suspicion: ClassVar[Duration] = 10.0
    """How long a lease must have been gone before others take the jobs over.

    So an outage of Redis that outlasts all leases gives nobody's jobs away.
    """

    stuck_after: ClassVar[Duration | None] = 900.0
    """How long the event loop may be blocked before the process gives its jobs up and ends.

    It ends with exit code 70, and writes all stacks. `None`: for ever. There is no other limit on
    how long a job may take.
    """

    unready_after: ClassVar[Duration] = 10.0
    """How long Redis may be away, or the event loop blocked, before the app is not ready.

    It is for `jobs.health()` and the probes; nothing else changes at that moment.
    """

    elect_ttl: ClassVar[Duration] = 60.0
    """How long a leader that has died keeps others from enqueueing the periodics' ticks."""

    # -- hearing of it

    reporters: ClassVar[ReporterList] = ()
    """Reporters that hear what becomes of jobs: classes, which are instantiated, or instances."""

    start_log_level: ClassVar[LogLevel] = "debug"
    """The level of the log line of a job that starts."""

    done_log_level: ClassVar[LogLevel] = "info"
    """The level of the log line of a job that is done."""

    fail_log_level: ClassVar[LogLevel] = "warning"
    """The level of the log line of a job that has failed."""

    slow_after: ClassVar[Duration | None] = None
    """Warn of a job that took longer. `None`: never."""

    metrics: ClassVar[Sequence[MetricsSink]] = ()
    """Who collects measurements, besides OpenTelemetry: objects with `collect(...)`."""

    tracing: ClassVar[bool] = True
    """Make OpenTelemetry's spans, once the application has set a tracer provider."""

    propagation: ClassVar[Literal["link", "parent", "none"]] = "link"
    """What binds a job's trace to the code that enqueued it.

    `"link"`: a trace of its own, linked to the other. `"parent"`: the first attempt is in the same
    trace, retries are linked. `"none"`: nothing; the payload carries no context either.
    """

    # -- tests

    test_mode: ClassVar[TestMode | None] = None
    """What stands in for the server in tests. `None`: nothing, this is production."""


if TYPE_CHECKING:

    class AppOptions(TypedDict, total=False):
        """The keywords of `App(...)`, `app.override(...)` and `config.replace(...)`."""

        queues: QueueTable
        groups: Sequence[QueueSpec]
        concurrency: int | None
        max_running: int
        workers: WorkerList
        periodics: PeriodicList
        server: bool
        threads: int
        processes: int
        redis_url: Url | None
        redis_options: Mapping[str, Any]
        namespace: str
        pool_size: int
        embedded: bool
        embedded_dir: str
        identity: str | None
        client_middleware: MiddlewareList
        flush_interval: Duration
        confirm_timeout: Duration
        push_timeout: Duration
        buffer_limit: int
        buffer_bytes: int
        on_unflushed: Literal["log", "raise"]
        max_payload: int
        middleware: MiddlewareList
        timeout: Duration | None
        shutdown_timeout: Duration
        leaked_tasks: Literal["cancel", "report", "ignore"]
        retry: bool | int
        backoff: BackoffName | BackoffFunction
        backtrace: bool | int
        death_handlers: Sequence[Hook]
        dead_limit: int
        dead_timeout: Duration
        schedulers: SchedulerName | Sequence[SchedulerName]
        poll_interval: Duration
        fetch_interval: Duration
        heartbeat_interval: Duration
        lease_ttl: Duration
        suspicion: Duration
        stuck_after: Duration | None
        unready_after: Duration
        elect_ttl: Duration
        reporters: ReporterList
        start_log_level: LogLevel
        done_log_level: LogLevel
        fail_log_level: LogLevel
        slow_after: Duration | None
        metrics: Sequence[MetricsSink]
        tracing: bool
        propagation: Literal["link", "parent", "none"]
        test_mode: TestMode | None
