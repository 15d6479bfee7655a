"""What users declare: a function or a class, with options, that jobs are made from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    final,
    overload,
)

from kiqpy._declare.checks import name_of, refuse_generator, takes
from kiqpy._declare.options import Options, options, written_in
from kiqpy._spec import Draft, Spec
from kiqpy.errors import ConfigError
from kiqpy.job import Job
from kiqpy.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from kiqpy._declare.checks import Duration
    from kiqpy._declare.options import (
        Across,
        BackoffFunction,
        BackoffName,
        ExecutorKind,
        Persist,
        Until,
        UsingOptions,
        WorkerOptions,
    )
    from kiqpy.codec import Codec

P = ParamSpec("P")
P_co = ParamSpec("P_co")
R = TypeVar("R")  # what calling `perform` gives: for `async def` a coroutine
T = TypeVar("T")  # what a job of the worker results in
T_co = TypeVar("T_co", covariant=True)
H = TypeVar("H", bound=Callable[[Job, BaseException], object])


@final
class FunctionWorker(Generic[P, R, T]):
    """A function that jobs can be made from; calling it just runs it."""

    def __init__(self, call: Callable[P, R], given: Options) -> None:
        self.spec = Spec(call, given)
        self.__wrapped__ = call
        self.__name__ = name_of(call) or self.spec.name
        self.__doc__ = call.__doc__
        self.__module__ = call.__module__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def new(self, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """A job, not yet enqueued. ArgumentError names the argument that does not fit."""
        return self.spec.new(args, kwargs, self.spec.given)

    def using(self, **overrides: Unpack[UsingOptions]) -> Draft[P, T]:
        """The same worker with other options for the jobs made from it.

        `queue`, `retry`, `retry_for`, `retry_queue`, `dead`, `backtrace`, `backoff` (a curve's
        name), `timeout`, `expires_in`, `unique_for`, `unique_until`, `unique_across`,
        `tags` as in `worker`; `in_` (seconds or a timedelta from now) or `at` (an aware datetime or
        epoch seconds) say when the job is due. Raises ConfigError.
        """
        return self.spec.using(**overrides)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt[T]:
        """Enqueue a job through the one app that declares this worker; see `App.enqueue`.

        ConfigError if several apps do and not just one is started, or if none does.
        """
        return await self.spec.app().enqueue(self.new(*args, **kwargs))

    def retries_exhausted(self, hook: H) -> H:
        """Call `hook(job, error)`, async or not, when a job has failed for the last time."""
        refuse_generator(f"{self.spec.name}.retries_exhausted", hook)
        self.spec.exhausted = hook
        return hook

    def __repr__(self) -> str:
        return f"<worker {self.spec.name}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name if name.startswith("__") else _advice(self, name))


class WorkerDecorator(Protocol):
    """What `worker(...)` returns: it makes a function into a worker."""

    @overload
    def __call__(
        self, call: Callable[P, Coroutine[Any, Any, T]], /
    ) -> FunctionWorker[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, call: Callable[P, R], /) -> FunctionWorker[P, R, R]: ...


@overload
def worker(
    call: Callable[P, Coroutine[Any, Any, T]], /
) -> FunctionWorker[P, Coroutine[Any, Any, T], T]: ...
@overload
def worker(call: Callable[P, R], /) -> FunctionWorker[P, R, R]: ...
@overload
def worker(**options: Unpack[WorkerOptions]) -> WorkerDecorator: ...
def worker(call: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Make a function into a worker: `@worker`, or `@worker(queue="mail", retry=10)`.

    Raises ConfigError for an unknown or impossible option. Durations are seconds or timedeltas;
    None means "as the app says", or "not at all". The options, and what holds without them:

    queue="default": where its jobs go, and run.
    retry=None: how often a failed job is tried again. True: 25 times; False: never, and the job
        is not kept; 0: never, and the job is kept as dead.
    retry_for=None: try again for so long after the first failure, however often that is.
    retry_queue=None: where retries run; None: where the job ran.
    lane=None: the lane of a `BlockingQueues` in which its jobs run one after the other.
    backoff=None: how long to wait for the next try: a curve's name, or a function of (retries
        before this one, error, job) that returns seconds, `Discard` or `Kill`.
    dead=True: whether a job that has failed for the last time is kept.
    backtrace=None: whether the payload keeps the error's traceback, or how many frames of it.
    timeout=None: how long a job may run.
    expires_in=None: how long after it is due a job is still worth starting.
    unique_for=None: for how long no second job with the same arguments is enqueued.
    unique_until="success": what ends that early: "success" (or death), "start", or, "expiry",
        nothing.
    unique_across="queue": which jobs with the same arguments are alike: those of the worker in
        one queue; "class", in all queues; "all", those of all workers.
    unique_by=None: a function of the arguments; jobs for which it returns the same are alike.
    max_concurrency=None: how many of its jobs run at a time in one process.
    local=False: whether its jobs run in the process that enqueues them, with Redis as their backup.
    persist="before": when a local job is written to Redis: "before" it begins, "alongside", or
        "never".
    codecs=(): types that arguments may have beside JSON's own.
    tags=(): words that travel with the job.
    name=None: the class name in payloads; None: the function's own.
    aliases=(): former names, whose jobs are still understood.
    executor=None: "async", "thread" or "process"; None: `async def` runs in the event loop, a
        plain function in a thread.
    """
    if call is not None:
        _check_function(call)
    checked = options(given)
    if call is not None:
        return FunctionWorker[..., Any, Any](call, checked)

    def make(function: Callable[..., Any]) -> FunctionWorker[..., Any, Any]:
        _check_function(function)
        return FunctionWorker(function, checked)

    return make


def _check_function(call: object) -> None:
    """ConfigError for what `@worker` can't stand above."""
    if not callable(call):
        raise ConfigError(f"@worker({call!r}): options have names, as in @worker(queue='mail')")
    if inspect.isclass(call):
        raise ConfigError(f"@worker on class {call.__name__}: subclass kiqpy.Worker instead")
    first = next(iter(inspect.signature(call).parameters), "")
    if inspect.isfunction(call) and first in ("self", "cls") and _is_in_class(call.__qualname__):
        raise ConfigError(
            f"@worker on method {call.__qualname__}: there is no {first} when a job runs; use a "
            "function, or a subclass of kiqpy.Worker"
        )


def _is_in_class(qualname: str) -> bool:
    owner = qualname.rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


class _Performs(Protocol[P_co, T_co]):
    def perform(self, *args: P_co.args, **kwargs: P_co.kwargs) -> T_co: ...


class _PerformsAsync(Protocol[P_co, T_co]):
    async def perform(self, *args: P_co.args, **kwargs: P_co.kwargs) -> T_co: ...


class _MakesDraft(Protocol[P_co, T]):
    def __call__(self, **overrides: Unpack[UsingOptions]) -> Draft[P_co, T]: ...


# What a class worker's `new`, `using` and `enqueue` take is what its `perform` takes; only a
# descriptor is told of which class that is.


class _New:
    @overload
    def __get__(
        self, instance: object, owner: type[_PerformsAsync[P, T]]
    ) -> Callable[P, Job[T]]: ...
    @overload
    def __get__(self, instance: object, owner: type[_Performs[P, T]]) -> Callable[P, Job[T]]: ...
    def __get__(self, instance: object, owner: Any) -> Callable[..., Job]:
        return _spec_of(owner).make


class _Using:
    @overload
    def __get__(self, instance: object, owner: type[_PerformsAsync[P, T]]) -> _MakesDraft[P, T]: ...
    @overload
    def __get__(self, instance: object, owner: type[_Performs[P, T]]) -> _MakesDraft[P, T]: ...
    def __get__(self, instance: object, owner: Any) -> _MakesDraft[Any, Any]:
        return _spec_of(owner).using


class _Enqueue:
    @overload
    def __get__(
        self, instance: object, owner: type[_PerformsAsync[P, T]]
    ) -> Callable[P, Coroutine[Any, Any, Receipt[T]]]: ...
    @overload
    def __get__(
        self, instance: object, owner: type[_Performs[P, T]]
    ) -> Callable[P, Coroutine[Any, Any, Receipt[T]]]: ...
    def __get__(self, instance: object, owner: Any) -> Callable[..., Coroutine[Any, Any, Receipt]]:
        return _spec_of(owner).enqueue


class _Elsewhere:
    """Another library's name of `enqueue`: there for nobody, but the error says what is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type[Worker]) -> Any:
        raise AttributeError(_advice(owner, self._name))


def _spec_of(owner: type[Worker]) -> Spec:
    return owner.spec


def _perform_of(cls: type) -> Callable[..., Any]:
    """Its method `perform`. ConfigError if no instance could be made, on which to call it."""
    perform: object = inspect.getattr_static(cls, "perform", None)
    for kind in (staticmethod, classmethod):
        if isinstance(perform, kind):
            raise ConfigError(
                f"{cls.__name__}.perform is a {kind.__name__}: make it a method, which finds its "
                "job in self.job"
            )
    if not callable(perform):
        raise ConfigError(f"{cls.__name__}: a worker needs a method `perform`")
    if not takes(cls, 0):
        raise ConfigError(
            f"{cls.__name__}.__init__ needs arguments, but each job gets an instance made without "
            "any: give them defaults, or pass them to perform"
        )
    return cast("Callable[..., Any]", perform)


class Worker:
    """Subclass it, give it `perform` (async or not), and make jobs with `.new(...)`.

    Options are class attributes, `queue = "exports"`, or class keywords, `class Export(Worker,
    queue="exports", retry=5)`: those of `worker`. Subclasses inherit all but `name` and `aliases`.
    Each job gets an instance of its own, with the job in `self.job`. Raises ConfigError for an
    unknown or impossible option, and for a class of which no instance can be made.

    `new`, `using` and `enqueue` take what `perform` takes, and do what those of a function made
    with `worker` do.
    """

    spec: ClassVar[Spec]
    job: Job
    queue: ClassVar[str]
    retry: ClassVar[bool | int | None]
    retry_for: ClassVar[Duration | None]
    retry_queue: ClassVar[str | None]
    lane: ClassVar[str | None]
    dead: ClassVar[bool]
    backtrace: ClassVar[bool | int | None]
    timeout: ClassVar[Duration | None]
    expires_in: ClassVar[Duration | None]
    unique_for: ClassVar[Duration | None]
    unique_until: ClassVar[Until]
    unique_across: ClassVar[Across]
    tags: ClassVar[Iterable[str]]
    backoff: ClassVar[BackoffName | BackoffFunction | None]
    unique_by: ClassVar[Callable[..., Any] | None]
    max_concurrency: ClassVar[int | None]
    local: ClassVar[bool]
    persist: ClassVar[Persist]
    codecs: ClassVar[Iterable[type | Codec[Any]]]
    name: ClassVar[str | None]
    aliases: ClassVar[Iterable[str]]
    executor: ClassVar[ExecutorKind | None]
    new = _New()
    using = _Using()
    enqueue = _Enqueue()
    if not TYPE_CHECKING:
        delay, apply_async, kiq = map(_Elsewhere, ("delay", "apply_async", "kiq"))
        perform_async, perform_in, perform_at = map(
            _Elsewhere, ("perform_async", "perform_in", "perform_at")
        )

    def __init_subclass__(cls, **options_: Unpack[WorkerOptions]) -> None:
        super().__init_subclass__()
        inherited: Options | None = getattr(getattr(cls, "spec", None), "given", None)
        given = written_in(cls, Worker)
        for name in given.keys() & options_.keys():
            raise ConfigError(f"{cls.__name__}: {name} is said twice, as attribute and keyword")
        checked = options({"name": None, "aliases": (), **given, **options_}, inherited)
        perform = _perform_of(cls)
        refuse_generator(f"{cls.__name__}.retries_exhausted", cls.retries_exhausted)
        has_hook = cls.retries_exhausted is not Worker.retries_exhausted
        cls.spec = Spec(perform, checked, cls, has_hook=has_hook)

    def retries_exhausted(self, job: Job, error: BaseException, /) -> object:
        """Override it, async or not: called when a job has failed for the last time."""


def _advice(owner: object, name: str) -> str:
    from kiqpy._declare.renamed import ENQUEUING  # only when it is wrong

    called = getattr(owner, "__name__", type(owner).__name__)
    advice = ENQUEUING.get(name)
    plain = f"worker {called!r} has no attribute {name!r}"
    return plain if advice is None else f"{plain}: {advice.replace('WORKER', called)}"


AnyWorker = FunctionWorker[..., Any, Any] | type[Worker]
