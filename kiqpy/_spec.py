"""A worker as the engine sees it: how a job is made of its arguments, and how a job is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, final
from weakref import WeakSet

from kiqpy._declare.checks import (
    NOT_IN_NAMES,
    duration,
    instant,
    is_async,
    name_of,
    refuse_generator,
)
from kiqpy._declare.options import Across, Options, options
from kiqpy._payload.arguments import check_args
from kiqpy._rules.backoff import check_backoff
from kiqpy._rules.unique import token
from kiqpy.errors import ArgumentError, ConfigError
from kiqpy.job import Job, LiveArguments
from kiqpy.receipt import Receipt

if TYPE_CHECKING:
    from typing import Unpack

    from kiqpy._declare.options import UsingOptions
    from kiqpy.codec import Codecs

P = ParamSpec("P")
T = TypeVar("T")  # what a job of the worker results in

_OF_WORKERS: Final = {
    "name",
    "aliases",
    "executor",
    "unique_by",
    "max_concurrency",
    "local",
    "persist",
    "codecs",
}

_TRAVEL: Final = (
    "retry",
    "retry_for",
    "retry_queue",
    "lane",
    "backtrace",
    "dead",
    "expires_in",
    "unique_for",
)
_UNSAID: Final[Mapping[str, object]] = {"dead": True}  # as everywhere

Hook = Callable[[Job, BaseException], object]


class EnqueuingApp(Protocol):
    """An app, as a worker sees it."""

    @property
    def started(self) -> bool: ...

    async def enqueue(self, job: Job[T]) -> Receipt[T]: ...


@final
class Spec:
    """A worker as the engine sees it: how to make a job of it, and how to call it."""

    def __init__(
        self,
        call: Callable[..., Any],
        given: Options,
        owner: type | None = None,
        *,
        has_hook: bool = False,
    ) -> None:
        self.call = call
        self.owner = owner  # the class to instantiate, for class workers
        self._has_hook = has_hook  # it has a method `retries_exhausted` of its own
        if given.backoff is not None:
            check_backoff(given.backoff)
        self.given = given
        self.name = _name(given.name, owner or call)
        refuse_generator(f"{self.name}: " + ("its `perform`" if owner else "the function"), call)
        self.is_async = is_async(call)
        self.executor = given.executor or ("async" if self.is_async else "thread")
        self.apps: WeakSet[Any] = WeakSet()
        self.exhausted: Hook | None = None
        self._fields = _fields(given)
        self.codecs = _codecs(given.codecs) if given.codecs else None
        self._read_signature(call, skip=1 if owner else 0)
        plain = owner is None and self.codecs is None and not self._by_keyword
        self._is_plain = plain and not given.local
        if self.executor == "async" and not self.is_async:
            raise ConfigError(f'{self.name}: executor="async" needs `async def`')
        if self.executor != "async" and self.is_async:
            raise ConfigError(f'{self.name}: executor="{self.executor}" needs a plain `def`')
        if self.executor == "process" and "<" in getattr(owner or call, "__qualname__", ""):
            raise ConfigError(
                f'{self.name}: executor="process" needs a function or class at the top of a '
                "module: a child process finds none that was made inside a function"
            )
        if NOT_IN_NAMES.search(self.name):
            raise ConfigError(f"a worker can't be called {self.name!r}: give it a name=")

    def _read_signature(self, call: Callable[..., Any], skip: int) -> None:
        parameters = list(inspect.signature(call).parameters.values())[skip:]
        kinds = inspect.Parameter
        positional = [p for p in parameters if p.kind <= kinds.POSITIONAL_OR_KEYWORD]
        _refuse_injected(parameters)
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
        if given.local:
            job.live = LiveArguments(args, kwargs, wire, given.persist)
        if given.tags:
            job.payload["tags"] = list(given.tags)
        if given is not self.given and (own := self._own(given)):
            job.payload["kiq"] = own
        if given.unique_for is not None:
            job.payload["unique_token"] = self._token(
                args, kwargs, given.queue, given.unique_across
            )
        return job

    def declared(self, job: Job) -> dict[str, Any]:
        """What a job that was made by hand gets of this worker, where it says nothing itself."""
        given = self.given
        fields: dict[str, Any] = {"queue": given.queue, **self._fields}
        if given.tags:
            fields["tags"] = list(given.tags)
        if job.payload.get("unique_for", given.unique_for) and "unique_token" not in job.payload:
            args, kwargs = self.arguments(job.args)
            queue = job.queue if job.says("queue") else given.queue
            across = job.payload.get("unique_across", given.unique_across)
            fields["unique_token"] = self._token(tuple(args), kwargs, queue, across)
        return fields

    def make(self, *args: Any, **kwargs: Any) -> Job:
        """A job, not yet enqueued. ArgumentError names the argument that does not fit."""
        return self.new(args, kwargs, self.given)

    def using(self, **overrides: Unpack[UsingOptions]) -> Draft[Any, Any]:
        """The same worker with other options for the jobs made from it; see `UsingOptions`."""
        return _draft(self, overrides)

    async def enqueue(self, *args: Any, **kwargs: Any) -> Receipt:
        """Enqueue a job through the one app that declares the worker; see `App.enqueue`.

        ConfigError if several apps do and not just one is started, or if none does.
        """
        return await self.app().enqueue(self.make(*args, **kwargs))

    def _own(self, given: Options) -> dict[str, Any]:
        """What this one job has otherwise than its worker, and Sidekiq has no field for."""
        own = {name: getattr(given, name) for name in ("timeout", "backoff")}
        return {name: value for name, value in own.items() if value != getattr(self.given, name)}

    def _token(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], queue: str, across: Across
    ) -> str:
        """Of all arguments, those left to their defaults too; or of what `unique_by` answers."""
        bound = self._bound(args, kwargs)
        bound.apply_defaults()
        unique_by = self.given.unique_by
        if unique_by is not None:
            key = unique_by(*bound.args, **bound.kwargs)
        else:
            key = [*bound.args, bound.kwargs] if bound.kwargs else [*bound.args]
        if self.codecs is not None:
            key = self.codecs.encode([key])[0]
        try:
            return token(self.name, queue, key, across)
        except (TypeError, ValueError) as error:
            what = "its arguments are" if unique_by is None else "unique_by answered"
            raise ArgumentError(f"{self.name}: {what} {key!r}, which is no key: {error}") from None

    def _wire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if not kwargs and not self._by_keyword and self._least <= len(args) <= self._most:
            return list(args)
        bound = self._bound(args, kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        if not self._by_keyword:
            return list(bound.args)
        extra = {k: v for k, v in bound.kwargs.items() if k in given or k not in self.keywords}
        return [*bound.args, extra]

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.name}{self.signature}: {error}") from None

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
        args, kwargs = job.live[:2] if job.live is not None else self.arguments(job.args)
        return self.target(job)(*args, **kwargs)

    def target(self, job: Job) -> Callable[..., Any]:
        """What to call: the function, or a fresh instance's `perform`, which knows its job."""
        if self.owner is None:
            return self.call
        instance: Any = self.owner()
        instance.job = job
        return cast("Callable[..., Any]", instance.perform)

    def has_exhausted_hook(self) -> bool:
        """Whether `exhausted_hook` may answer something."""
        return self._has_hook or self.exhausted is not None

    def exhausted_hook(self, job: Job) -> Hook | None:
        """What the worker wants called after the last failure of one of its jobs."""
        if self.owner is None or not self._has_hook:
            return self.exhausted
        instance: Any = self.owner()
        instance.job = job
        return cast("Hook", instance.retries_exhausted)

    def app(self) -> EnqueuingApp:
        """The one app that declares this worker; of several, the one that is started."""
        apps: list[EnqueuingApp] = list(self.apps)
        started = [app for app in apps if app.started]
        if len(started or apps) == 1:
            return (started or apps)[0]
        which = f"{len(apps)} apps declare it" if apps else "no app declares it"
        raise ConfigError(f"{self.name}.enqueue(): {which}; use app.enqueue({self.name}.new(...))")


def _name(given: str | None, call: object) -> str:
    name = given or name_of(call)
    if name is None:
        raise ConfigError(f"{call!r} has no name of its own: worker(name=...) must give it one")
    return name


def _refuse_injected(parameters: Iterable[inspect.Parameter]) -> None:
    """ConfigError for a default that another framework would replace, and kiqpy would pass on."""
    for parameter in parameters:
        kind = type(parameter.default).__name__
        if kind in ("Depends", "TaskiqDepends", "Security"):
            raise ConfigError(
                f"{parameter.name}={kind}(...): nothing is injected into a job; make it in "
                "`perform`, or once for all jobs where the app is started"
            )


def _codecs(types: Iterable[Any]) -> Codecs:
    from kiqpy.codec import Codecs  # an expensive import that few workers need

    return Codecs(types)


def _fields(given: Options) -> dict[str, Any]:
    """What travels with every job of a worker, under Sidekiq's names."""
    fields = {name: getattr(given, name) for name in _TRAVEL}
    if given.unique_for is not None:
        fields["unique_until"] = given.unique_until
    return {k: v for k, v in fields.items() if v is not None and v is not _UNSAID.get(k)}


@final
class Draft(Generic[P, T]):
    """A worker with some options overridden for the jobs made from it."""

    def __init__(self, spec: Spec, given: Options, in_s: float | None, at_s: float | None) -> None:
        self._spec = spec
        self._given = given
        self._in_s = in_s
        self._at_s = at_s

    def new(self, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """A job, not yet enqueued. ArgumentError names the argument that does not fit."""
        job: Job[T] = self._spec.new(args, kwargs, self._given)
        job.in_s = self._in_s
        job.at_s = self._at_s
        return job

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Receipt[T]:
        """Enqueue a job through the one app that declares the worker; see `App.enqueue`."""
        return await self._spec.app().enqueue(self.new(*args, **kwargs))


def _draft(spec: Spec, overrides: Mapping[str, Any]) -> Draft[Any, Any]:
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
