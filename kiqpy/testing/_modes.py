"""For suites that start their app as in production: a mode for each test, and what it enqueued."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, get_args

from kiqpy._runtime.environment import DeclaredApp
from kiqpy.errors import ConfigError, LifecycleError
from kiqpy.job import Job
from kiqpy.testing._sandbox.environment import recorder_of
from kiqpy.testing._sandbox.recorder import EnqueueRecorder, Visibility
from kiqpy.testing._sandbox.scope import Mode, opened
from kiqpy.worker import AnyWorker


@contextmanager
def set_mode(app: DeclaredApp, mode: Mode) -> Generator[None]:
    """Within the block the app is in this mode, and the assertions see what the block enqueues.

    An app that starts within the block starts in this mode. One that runs in "sandbox", "fake" or
    "inline" changes among these at once, for this test's tasks only. Open it in the test itself or
    in an async fixture; in a plain one it takes in the jobs of long-lived tasks, too.
    Raises LifecycleError if the app runs on a server.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"mode={mode!r}: give {' or '.join(map(repr, get_args(Mode)))}")
    live = recorder_of(app).live
    if (app.started and live in (None, "redis")) or (live is not None and mode == "redis"):
        where = "on a server" if live in (None, "redis") else "in memory"
        raise LifecycleError(
            f"{app.name} is started already, {where}: set_mode(app, {mode!r}) must come first"
        )
    with opened(app, mode):
        yield


def enqueued(app: DeclaredApp, scope: Visibility = "sandbox") -> list[Job]:
    """The jobs that this test's tasks have enqueued, in order; `scope="shared"`: everybody's."""
    return _recorder(app).jobs(scope=scope)


def assert_enqueued(
    app: DeclaredApp,
    worker: AnyWorker | str | None = None,
    args: object = None,
    count: int | None = None,
    *,
    scope: Visibility = "sandbox",
    **subset: Any,
) -> Job:
    """Return the (first) job that fits; exactly `count` of them, if given.

    Only what is named is compared: `args` (a list, or a dict of parameter names and values),
    `in_`, `at`, and any payload field; of dicts, the keys that are named. AssertionError says what
    was enqueued instead. `scope`: by this test's tasks ("sandbox"), or by anybody ("shared").
    """
    return _recorder(app).assert_enqueued(worker, args, count, scope, **subset)


def refute_enqueued(
    app: DeclaredApp,
    worker: AnyWorker | str | None = None,
    args: object = None,
    *,
    scope: Visibility = "sandbox",
    **subset: Any,
) -> None:
    """AssertionError, with the jobs, if any fits."""
    _recorder(app).refute_enqueued(worker, args, scope, **subset)


def _recorder(app: DeclaredApp) -> EnqueueRecorder:
    recorder = recorder_of(app)
    if app.started and recorder.live in (None, "redis"):
        raise LifecycleError(
            f"{app.name} runs on a server, where nothing is recorded: "
            'start it with test_mode="sandbox"'
        )
    return recorder
