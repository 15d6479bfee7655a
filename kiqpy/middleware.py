"""What users put around jobs: one chain around each attempt, another around each push.

Theory of operation. A chain is compiled once, outermost first. One job's passage through it is an
`_Invocation`. Each middleware gets a `_CallNext` as its `call_next`, which records whether it was
called, whether the rest of the chain has ended, and what it raised: so an error is attributed to
the middleware that raised it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast, final

from kiqpy.errors import ArgumentError, ConfigError, LifecycleError
from kiqpy.job import Job
from kiqpy.outcome import Discard, Signal, is_signal

Next = Callable[[Job], Awaitable[Any]]
ServerMiddleware = Callable[[Job, Next], Awaitable[Any]]
ClientMiddleware = Callable[[Job, Next], Awaitable[Any]]
Around = Callable[[Next], Next]

HALTED: Final = "halted"
_WANTED: Final = "give `async def name(job, call_next)`, or an object whose `__call__` is like that"


class _Link(NamedTuple):
    name: str
    call: ServerMiddleware


def check_middleware(option: str, chain: Iterable[object]) -> None:
    """ConfigError unless every item can stand around a job. Makes no instances."""
    for item in chain:
        call = _call_of(item)
        if not inspect.iscoroutinefunction(call):
            raise ConfigError(f"{option}: {_name(item)} is not async: {_WANTED}")
        if not _takes(call, 3 if inspect.isclass(item) else 2):
            raise ConfigError(f"{option}: {_name(item)} takes other arguments: {_WANTED}")
        if inspect.isclass(item) and not _takes(item, 0):
            raise ConfigError(f"{option}: {_name(item)} needs arguments: give an instance of it")


def _call_of(item: object) -> Callable[..., object]:
    """What runs for a job: the function itself, or `__call__`; of a class, the unbound one."""
    own = inspect.iscoroutinefunction(item)
    return cast("Callable[..., object]", item if own else getattr(item, "__call__", None))  # noqa: B004


def _takes(call: Callable[..., object], n: int) -> bool:
    try:
        inspect.signature(call).bind(*[None] * n)
    except (TypeError, ValueError):
        return False
    return True


def _name(item: object) -> str:
    return str(getattr(item, "__qualname__", type(item).__qualname__))


def _links(option: str, chain: Iterable[Any]) -> list[_Link]:
    """The chain, checked; classes are instantiated here, once."""
    chain = tuple(chain)
    check_middleware(option, chain)
    made: list[Any] = [item() if inspect.isclass(item) else item for item in chain]
    return [_Link(_name(item), call) for item, call in zip(chain, made, strict=True)]


@final
class _Invocation:
    """One job's passage through a chain; `at` is the middleware whose code runs now."""

    __slots__ = ("at", "core", "links")

    def __init__(self, links: list[_Link], core: Next) -> None:
        self.links = links
        self.core = core
        self.at = 0

    async def go(self, job: Job, n: int, caller: _CallNext | None = None) -> Any:
        """Into the nth middleware and all that is further in; `caller` gets how that ended."""
        turn: _CallNext | None = None
        try:
            if n == len(self.links):
                result = await self.core(job)
            else:
                self.at = n
                turn = _CallNext(self, n)
                result = turn.answer(await self.links[n].call(job, turn))
        except BaseException as error:
            if turn is not None and error is not turn.raised:
                _attribute(error, self.links[n].name)
            if caller is not None:
                caller.raised = error
                caller.ended = True
                self.at = n - 1
            raise
        if caller is not None:
            caller.result = result
            caller.ended = True
            self.at = n - 1
        return result


@final
class _CallNext:
    """What one middleware gets as `call_next`, for one job, and what came of calling it."""

    __slots__ = ("_began", "_invocation", "_n", "ended", "raised", "result")

    def __init__(self, invocation: _Invocation, n: int) -> None:
        self._invocation = invocation
        self._n = n
        self._began: Coroutine[Any, Any, Any] | None = None
        self.ended = False
        self.result: Any = None
        self.raised: BaseException | None = None

    def __call__(self, job: Job) -> Coroutine[Any, Any, Any]:
        if type(job) is not Job:
            raise ArgumentError(f"call_next takes the job, not {job!r}")
        if self._began is not None:
            raise RuntimeError("call_next was called twice: a job goes on once, or not at all")
        self._began = self._invocation.go(job, self._n + 1, self)
        return self._began

    def answer(self, result: Any) -> Any:
        """What the middleware's own result stands for."""
        if self._began is None:
            return result if is_signal(result) else Discard(HALTED)
        if not self.ended:
            name = self._invocation.links[self._n].name
            if inspect.getcoroutinestate(self._began) == inspect.CORO_CREATED:
                self._began.close()  # the error says it; a warning would only add to it
            raise RuntimeError(f"middleware {name} did not await call_next(job)")
        return self.result if result is None else result


def _attribute(error: BaseException, name: str) -> None:
    """Say in the error whose it is; once, for an error may be raised again and again."""
    if isinstance(error, Signal) or not isinstance(error, Exception):
        return
    note = f"raised by middleware {name}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def compile_server(chain: Iterable[ServerMiddleware | type[Any]]) -> Around | None:
    """Makes of `perform(job)` the same with the chain around it; None for an empty chain.

    The result is `perform`'s, or what a middleware returned in its place (a middleware that
    returns None changes nothing). `Discard("halted")` if one neither called `call_next` nor
    returned a signal. An error that a middleware raised itself carries a note with its name.
    """
    links = _links("middleware", chain)

    def around(perform: Next) -> Next:
        return lambda job: _Invocation(links, perform).go(job, 0)

    return around if links else None


def compile_client(chain: Iterable[ClientMiddleware | type[Any]]) -> ClientChain | None:
    """The chain around each push; None for an empty one."""
    links = _links("client_middleware", chain)
    return ClientChain(links) if links else None


@final
class ClientChain:
    """What a job passes before it is pushed. It may come out changed, as another, or not at all."""

    def __init__(self, links: list[_Link]) -> None:
        self._links = links

    async def __call__(self, job: Job) -> Job | None:
        """The job that is to be pushed; None: none. Raises what a middleware raises."""
        accepted: list[Job] = []
        await self._invocation(accepted).go(job, 0)
        return accepted[0] if accepted else None

    def run_sync(self, job: Job) -> Job | None:
        """The same for code that can't await. LifecycleError if a middleware has to wait."""
        accepted: list[Job] = []
        invocation = self._invocation(accepted)
        run = invocation.go(job, 0)
        try:
            run.send(None)
        except StopIteration:
            return accepted[0] if accepted else None
        name = self._links[invocation.at].name
        with suppress(RuntimeError):  # it may wait again in a `finally`
            run.close()
        raise LifecycleError(
            f"client middleware {name} waits for something, which enqueue_nowait can't: use "
            "`await enqueue(...)`, or make the middleware do without"
        )

    def _invocation(self, accepted: list[Job]) -> _Invocation:
        async def accept(job: Job) -> None:
            accepted.append(job)

        return _Invocation(self._links, accept)
