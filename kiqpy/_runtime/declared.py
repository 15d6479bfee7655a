"""What an app declares: its options, by whom they were given, and its workers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, final

from kiqpy._declare.env import holds_env
from kiqpy._registry import Registry
from kiqpy._runtime.periodics import check_known
from kiqpy.config import NAMES, Config, configure, refuse, resembles
from kiqpy.errors import ConfigError, LifecycleError
from kiqpy.middleware import check_middleware
from kiqpy.options import Declaration

Answer = Config | bool | None
Init = Callable[[Config], Answer | Awaitable[Answer]]  # `App.init`


@final
class DeclaredOptions:
    """One app's options and workers. ConfigError at once for what is wrong in itself."""

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self.name = name
        self._given = dict(given)
        self._overrides: dict[str, Any] = {}
        self.config: Config = configure(_known(self._given))
        if holds_env(self._given.get("workers", ())):
            raise ConfigError("workers can't be read from the environment: list them")
        self._workers = self.config.workers
        self.registry = Registry(self.config.workers)
        check_middleware("middleware", self.config.middleware)
        check_middleware("client_middleware", self.config.client_middleware)
        local = self.registry.local_queues()
        _check_local(local, self.config.all_queues())
        check_known(self.config.periodics, [*self.config.all_queues(), *local], self.registry)
        self._check_queues()

    def override(self, options: Mapping[str, Any]) -> None:
        """Let these options count more than all others, from the next start on."""
        self.config = self.config.replace(**options)
        self._overrides |= options

    def _check_queues(self) -> None:
        if self.config.server and not self.config.queues and not self.config.groups:
            raise ConfigError(f'{self.name} has no queues: set queues = {{"default": 25}}')

    async def read(self, init: Init, *, in_test: bool) -> Config:
        """The options for a start: those given, the environment's, `init`'s, the overrides.

        In a test mode `redis_url` is not read: it may be env(...) of a variable that no test has.
        LifecycleError if `init` returns False, ConfigError if it returns something else than
        a configuration.
        """
        given = dict(self._given)
        if in_test or given.get("test_mode"):
            given.pop("redis_url", None)
        self.config = configure(given).replace(**self._overrides)
        answer = init(self.config)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is False:
            raise LifecycleError(f"{self.name}.init returned False: it does not want to start")
        if isinstance(answer, Config):
            self.config = answer.replace(**self._overrides)
        elif answer is not None and answer is not True:
            raise ConfigError(f"{self.name}.init returned {answer!r}: give config.replace(...)")
        self._check_queues()
        if self.config.workers != self._workers:
            raise ConfigError(f"{self.name}: workers are declared; a start can't change them")
        return self.config


def _check_local(local: Sequence[str], declared: Sequence[str]) -> None:
    if both := [name for name in local if name in declared]:
        raise ConfigError(
            f"queue {both[0]!r} is declared, and a local worker has it too: local jobs have a "
            "queue of their own; leave out the worker's queue=, or take it off the app's queues"
        )


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    """What need not be read from the environment, which is read at the start."""
    return {name: value for name, value in given.items() if not holds_env(value)}


def class_options(cls: type) -> dict[str, Any]:
    """The options among the attributes of an app's class, those of the nearest class first."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is Declaration:  # the defaults
            continue
        for name, value in vars(base).items():
            if name in NAMES or name == "concurrency":
                found[name] = value
            elif resembles(name, value) and not (value is None or value == () or value == []):
                refuse(name)
    return found
