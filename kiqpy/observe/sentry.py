"""Errors of jobs for Sentry (extra `sentry`): one isolation scope a job, final failures as errors.

Imported by applications that want it: nothing of kiqpy imports it. The application calls
`sentry_sdk.init` itself; until then nothing is sent.

Theory of operation. Whether a failure is final is known only when it is stored, and then the job's
code is long over. So the scopes of a failed attempt are kept until the reporter hears of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, final, get_args

import sentry_sdk
from sentry_sdk.scope import Scope, use_isolation_scope, use_scope
from sentry_sdk.utils import event_from_exception

from kiqpy.errors import ConfigError, suggest
from kiqpy.event import Event, JobDead, JobFailure
from kiqpy.job import Job
from kiqpy.middleware import Next, ServerMiddleware
from kiqpy.outcome import signal_of
from kiqpy.reporter import Reporter

RetriedAs = Literal["breadcrumb", "warning", "error"]
Level = Literal["warning", "error"]

_MAX_KEPT_SCOPES: Final = 1000
_FLUSH_S: Final = 2.0


class _Scopes(NamedTuple):
    """What the job's code has set: tags, breadcrumbs, the user and so on."""

    isolation: Scope
    current: Scope


@final
class SentryReporter(Reporter):
    """Tells Sentry of jobs that fail: `reporters = [SentryReporter()]`.

    Each attempt has an isolation scope of its own, with the job's class, queue, jid and attempt as
    tags and in the context `job`; what the job's code adds to it is in the event. A failure without
    a further retry has the level "error". `retries` is for one that is retried: its level, or
    "breadcrumb": no event, only a breadcrumb in the next attempt, which there always is.
    `arguments=True` adds the job's arguments, and the local variables of its code, if the client's
    `include_local_variables` holds. Snooze, Discard, Kill and cancellations are no errors.

    Raises: ConfigError: `retries` is none of the three.
    """

    def __init__(self, *, retries: RetriedAs = "warning", arguments: bool = False) -> None:
        known = get_args(RetriedAs)
        if retries not in known:
            hint = suggest(retries, known) or f"give one of {', '.join(map(repr, known))}"
            raise ConfigError(f"retries={retries!r}: {hint}")
        self._retry_level: Level | None = None if retries == "breadcrumb" else retries
        self._arguments = arguments
        self._kept: OrderedDict[str, _Scopes] = OrderedDict()

    def middleware(self) -> Sequence[ServerMiddleware]:
        return (self._isolated,)

    async def _isolated(self, job: Job, call_next: Next) -> object:
        with sentry_sdk.isolation_scope() as scope:
            self._describe(scope, job)
            try:
                return await call_next(job)
            except BaseException as error:  # a timeout comes as a cancellation
                if signal_of(error) is None:
                    self._keep(job.jid, _Scopes(scope, sentry_sdk.get_current_scope()))
                raise

    def _keep(self, jid: str, scopes: _Scopes) -> None:
        """Cancelled attempts are never asked for: the oldest scopes give way."""
        self._kept[jid] = scopes
        while len(self._kept) > _MAX_KEPT_SCOPES:
            self._kept.popitem(last=False)

    def _describe(self, scope: Scope, job: Job) -> None:
        said: dict[str, Any] = {
            "class": job.class_,
            "queue": job.queue,
            "jid": job.jid,
            "attempt": job.attempt,
        }
        for name, value in said.items():
            scope.set_tag(f"job.{name}", value)
        scope.set_transaction_name(job.class_, source="task")
        scope.set_context("job", said | {"args": job.args} if self._arguments else said)
        if job.attempt > 1:
            scope.add_breadcrumb(category="job.retry", level="warning", message=_before(job))

    def listens_to(self) -> frozenset[type[Event]]:
        return frozenset((JobFailure, JobDead))

    def handle(self, event: Event) -> None:
        match event:
            case JobFailure(job=job, error=error, retry_in_s=again_s):
                self._failed(job, error, None if again_s is None else self._retry_level, again_s)
            case JobDead(job=None, error=error):
                self._capture(error, "error")  # its bytes are no job: there was no attempt
            case _:
                pass

    def _failed(
        self, job: Job, error: BaseException, retry_level: Level | None, again_s: float | None
    ) -> None:
        scopes = self._kept.pop(job.jid, None)
        level = "error" if again_s is None else retry_level
        if level is None or signal_of(error) is not None:
            return
        if scopes is None:  # it failed before its code began
            with sentry_sdk.isolation_scope() as scope:
                self._describe(scope, job)
                self._capture(error, level, again_s)
            return
        with use_isolation_scope(scopes.isolation), use_scope(scopes.current):
            self._capture(error, level, again_s)

    def _capture(self, error: BaseException, level: Level, again_s: float | None = None) -> None:
        options = sentry_sdk.get_client().options
        shown = self._arguments and options.get("include_local_variables", True)
        event, hint = event_from_exception(
            error,
            client_options={**options, "include_local_variables": shown},
            mechanism={"type": "kiqpy", "handled": again_s is not None},
        )
        event["level"] = level
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("job.retried", again_s is not None)
            sentry_sdk.capture_event(event, hint)

    async def stop(self) -> None:
        """Send what waits: a child process of `kiqpy run` ends without Python's exit hooks."""
        await asyncio.to_thread(sentry_sdk.flush, _FLUSH_S)


def _before(job: Job) -> str:
    """How the attempt before this one failed, as its payload says."""
    found = (job.payload.get(name) for name in ("error_class", "error_message"))
    what = ": ".join(str(text) for text in found if text) or "unknown error"
    return f"attempt {job.attempt - 1} failed: {what}"
