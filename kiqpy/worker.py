"""What users declare: a function or a class, with options, that jobs are made from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    final,
    overload,
)
from weakref import WeakSet

from kiqpy._declare.checks import duration, instant
from kiqpy._declare.options import Options, options
from kiqpy._payload.arguments import check_args
from kiqpy._rules.backoff import check_backoff
from kiqpy._rules.unique import token
from kiqpy.errors import ArgumentError, ConfigError
from kiqpy.job import NOT_IN_NAMES, Job
from kiqpy.receipt import Receipt

if TYPE_CHECKING:
    from kiqpy.codec import Codecs

P = ParamSpec("P")
P_co = ParamSpec("P_co")
R = TypeVar("R")
H = TypeVar("H", bound=Callable[[Job, BaseException], object])

_OF_WORKERS: Final = {"name", "aliases", "executor", "unique_by", "max_concurrency", "codecs"}

_TRAVEL: Final = (
    "retry", "retry_for", "retry_queue", "backtrace", "dead", "expires_in", "unique_for",
)  # fmt: skip
_UNSAID: Final[Mapping[str, object]] = {"dead": True, "backtrace": False}  # as everywhere

Hook = Callable[[Job, BaseException], object]


class Enqueuer(Protocol):
    """An app, as a worker sees it."""

    @property
    def started(self) -> bool: ...

    async def enqueue(self, job: Job) -> Receipt: ...


@final
class Spec:
    """A worker as the engine sees it: how to make a job of it, and how to call it."""

    def __init__(self, call: Callable[..., Any], given: Options, owner: type | None = None) -> None:
        self.call = call
        self.owner = owner  # the class to instantiate, for class workers
        if given.backoff is not None:
            check_backoff(given.backoff)
        self.given = given
        self.name = given.name or (owner or call).__name__
        if NOT_IN_NAMES.search(self.name):
            raise ConfigError(f"a worker can't be called {self.name!r}: give it a name=")
        self.is_async = inspect.iscoroutinefunction(call)
        self.executor = given.executor or ("async" if self.is_async else "thread")
        self.apps: WeakSet[Any] = WeakSet()
        self.exhausted: Hook | None = None
        self._fields = _fields(given)
        self.codecs = _codecs(given.codecs) if given.codecs else None
        self._read_signature(call, skip=1 if owner else 0)
        self._is_plain = owner is None and self.codecs is None and not self._by_keyword
        if self.executor == "async" and not self.is_async:
            raise ConfigError(f'{self.name}: executor="async" needs `async def`')
        if self.executor != "async" and self.is_async:
            raise ConfigError(f'{self.name}: executor="{self.executor}" needs a plain `def`')

    def _read_signature(self, call: Callable[..., Any], skip: int) -> None:
        parameters = list(inspect.signature(call).parameters.values())[skip:]
        kinds = inspect.Parameter
        positional = [p for p in parameters if p.kind <= kinds.POSITIONAL_OR_KEYWORD]
        self.signature = inspect.Signature(parameters)
        self.names = [p.name for p in positional]
        self.keywords = {p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY}
        self.any_keyword = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        self._by_keyword = self.any_keyword or bool(self.keywords)
        self._least = sum(p.default is p.empty for p in positional)
        self._most = len(positional)
        if any(p.kind is kinds.VAR_POSITIONAL for p in parameters):
            self._most = 2**31

    def new(self, args: tuple[Any, ...], kwargs: dict[str, Any], given: Options) -> Job:
        """A job for these arguments. ArgumentError if they do not fit, or can't travel."""
        wire = self._wire(args, kwargs)
        if self.codecs is not None:
            wire = self.codecs.encode(wire, self.names)
        check_args(wire, self.names)
        job = Job.from_payload({"class": self.name, "args": wire, "queue": given.queue})
        job.payload.update(self._fields if given is self.given else _fields(given))
        if given.tags:
            job.payload["tags"] = list(given.tags)
        if given is not self.given and (own := self._own(given)):
            job.payload["kiq"] = own
        if given.unique_for is not None:
            job.payload["unique_token"] = self._token(args, kwargs, given)
        return job

    def _own(self, given: Options) -> dict[str, Any]:
        """What this one job has otherwise than its worker, and Sidekiq has no field for."""
        own = {name: getattr(given, name) for name in ("timeout", "backoff")}
        return {name: value for name, value in own.items() if value != getattr(self.given, name)}

    def _token(self, args: tuple[Any, ...], kwargs: dict[str, Any], given: Options) -> str:
        """Of all arguments, those left to their defaults too; or of what `unique_by` answers."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if given.unique_by is not None:
            key = given.unique_by(*bound.args, **bound.kwargs)
        else:
            key = [*bound.args, bound.kwargs] if bound.kwargs else [*bound.args]
        if self.codecs is not None:
            key = self.codecs.encode([key])[0]
        try:
            return token(self.name, given.queue, key)
        except (TypeError, ValueError) as error:
            what = "its arguments are" if given.unique_by is None else "unique_by answered"
            raise ArgumentError(f"{self.name}: {what} {key!r}, which is no key: {error}") from None

    def _wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if not kwargs and not self._by_keyword and self._least <= len(args) <= self._most:
            return list(args)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.name}{self.signature}: {error}") from None
        given = set(bound.arguments)
        bound.apply_defaults()
        if not self._by_keyword:
            return list(bound.args)
        extra = {k: v for k, v in bound.kwargs.items() if k in given or k not in self.keywords}
        return [*bound.args, extra]

    def arguments(self, wire: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """How to call `perform` with what a payload holds. ArgumentError: a codec can't read it."""
        if self.codecs is not None:
            wire = self.codecs.decode(wire, self.names)
        if not wire or not self._by_keyword or type(wire[-1]) is not dict:
            return wire, {}
        last = cast("dict[str, Any]", wire[-1])
        if self.any_keyword or last.keys() <= self.keywords:
            return wire[:-1], last
        return wire, {}

    def run(self, job: Job) -> Any:
        """Call `perform` for a job: its result, or if it is async what is to be awaited."""
        if self._is_plain:
            return self.call(*job.payload["args"])
        args, kwargs = self.arguments(job.args)
        return self.target(job)(*args, **kwargs)

    def target(self, job: Job) -> Callable[..., Any]:
        """What to call: the function, or a fresh instance's `perform`, which knows its job."""
        if self.owner is None:
            return self.call
        instance = self.owner()
        instance.job = job
        return cast("Callable[..., Any]", instance.perform)

    def has_exhausted_hook(self) -> bool:
        """Whether `exhausted_hook` may answer something."""
        return self.exhausted is not None or hasattr(self.owner, "retries_exhausted")

    def exhausted_hook(self, job: Job) -> Hook | None:
        """What the worker wants called after the last failure of one of its jobs."""
        if self.owner is None:
            return self.exhausted
        instance = self.owner()
        instance.job = job
        return getattr(instance, "retries_exhausted", None)

    def app(self) -> Enqueuer:
        """The one app that declares this worker; of several, the one that is started."""
        apps: list[Enqueuer] = list(self.apps)
        started = [app for app in apps if app.started]
        if len(started or apps) == 1:
            return (started or apps)[0]
        which = f"{len(apps)} apps declare it" if apps else "no app declares it"
        raise ConfigError(f"{self.name}.enqueue(): {which}; use app.enqueue({self.name}.new(...))")


def _codecs(types: Iterable[Any]) -> Codecs:
    from kiqpy.codec import Codecs  # dear to import, and few workers need it

    return Codecs(types)


def _fields(given: Options) -> dict[str, Any]:
    """What travels with every job of a worker, under Sidekiq's names."""
    fields = {name: getattr(given, name) for name in _TRAVEL}
    if given.unique_for is not None:
        fields["unique_until"] = given.unique_until
    return {k: v for k, v in fields.items() if v is not None and v is not _UNSAID.get(k)}


@final
class Draft(Generic[P]):
    """A worker with some options overridden for the jobs made from it."""

    def __init__(self, spec: Spec, given: Options, in_s: float | None, at_s: float | None) -> None:
        self._spec, self._given, self._in_s, self._at_s = spec, given, in_s, at_s

    def new(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A job, not yet enqueued. ArgumentError names what does not fit."""
        job = self._spec.new(args, kwargs, self._given)
        job.in_s, job.at_s = self._in_s, self._at_s
        return job

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Enqueue through the one app that declares the worker; see `App.enqueue`."""
        return await self._spec.app().enqueue(self.new(*args, **kwargs))


def _draft(spec: Spec, overrides: Mapping[str, Any]) -> Draft[Any]:
    given = dict(overrides)
    in_, at = given.pop("in_", None), given.pop("at", None)
    for name in _OF_WORKERS & given.keys():
        raise ConfigError(f"using({name}=...): no job carries it, declare it with the worker")
    if given.get("backoff") is not None:
        check_backoff(given["backoff"])
    if callable(given.get("backoff")):
        raise ConfigError("using(backoff=...): no job carries a function, give a curve's name")
    return Draft(
        spec,
        options(given, spec.given),
        None if in_ is None else duration("in_", in_),
        None if at is None else instant("at", at),
    )


@final
class FunctionWorker(Generic[P, R]):
    """A function that jobs can be made from; calling it just runs it."""

    def __init__(self, call: Callable[P, R], given: Options) -> None:
        self.spec = Spec(call, given)
        self.__wrapped__ = call
        self.__name__ = call.__name__
        self.__doc__ = call.__doc__
        self.__module__ = call.__module__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def new(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A job, not yet enqueued. ArgumentError names what does not fit."""
        return self.spec.new(args, kwargs, self.spec.given)

    def using(self, **overrides: Any) -> Draft[P]:
        """The same worker with other options, `in_=` or `at=` for the jobs made from it."""
        return cast("Draft[P]", _draft(self.spec, overrides))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Enqueue through the one app that declares this worker; see `App.enqueue`."""
        return await self.spec.app().enqueue(self.new(*args, **kwargs))

    def retries_exhausted(self, hook: H) -> H:
        """Call `hook(job, error)`, async or not, when a job has failed for the last time."""
        self.spec.exhausted = hook
        return hook

    def __repr__(self) -> str:
        return f"<worker {self.spec.name}>"


@overload
def worker(call: Callable[P, R], /) -> FunctionWorker[P, R]: ...
@overload
def worker(**given: Any) -> Callable[[Callable[P, R]], FunctionWorker[P, R]]: ...
def worker(call: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Make a function into a worker: `@worker` or `@worker(queue="mail", retry=10)`.

    Takes the options of SPEC 2. Raises ConfigError for an unknown or impossible one.
    """
    checked = options(given)
    if call is not None:
        return FunctionWorker(call, checked)

    def make(function: Callable[..., Any]) -> FunctionWorker[..., Any]:
        return FunctionWorker(function, checked)

    return make


class _Performs(Protocol[P_co]):
    def perform(self, *args: P_co.args, **kwargs: P_co.kwargs) -> Any: ...


class _New:
    """`Export.new(...)`, with the parameters of `Export.perform`."""

    def __get__(self, instance: object, owner: type[_Performs[P]]) -> Callable[P, Job]:
        spec = cast("type[Worker]", owner).spec
        return lambda *args, **kwargs: spec.new(args, kwargs, spec.given)


class Worker:
    """Subclass it, give it `perform` (async or not), and make jobs with `.new(...)`.

    Options are class keywords: `class Export(Worker, queue="exports", retry=5)`; subclasses
    inherit them. Each job gets an instance of its own, with the job in `self.job`. A method
    `retries_exhausted(self, job, error)`, async or not, is called after a job's last failure.
    """

    spec: ClassVar[Spec]
    job: Job
    new = _New()

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__()
        inherited: Options | None = getattr(getattr(cls, "spec", None), "given", None)
        checked = options({"name": None, "aliases": (), **given}, inherited)
        perform = getattr(cls, "perform", None)
        if not callable(perform):
            raise ConfigError(f"{cls.__name__}: a worker needs a method `perform`")
        cls.spec = Spec(perform, checked, cls)

    @classmethod
    def using(cls, **overrides: Any) -> Draft[Any]:
        """The same worker with other options, `in_=` or `at=` for the jobs made from it."""
        return _draft(cls.spec, overrides)

    @classmethod
    async def enqueue(cls, *args: Any, **kwargs: Any) -> Receipt:
        """Enqueue through the one app that declares this worker; see `App.enqueue`."""
        return await cls.spec.app().enqueue(cls.spec.new(args, kwargs, cls.spec.given))


AnyWorker = FunctionWorker[Any, Any] | type[Worker]
