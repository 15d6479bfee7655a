"""The only place where a class name from Redis becomes something to run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any, cast, final

from kiqpy._spec import Spec
from kiqpy.errors import ConfigError, UnknownWorker, suggest
from kiqpy.job import Job
from kiqpy.worker import AnyWorker, FunctionWorker, Worker


@final
class Registry:
    """The workers of one app, by the names that payloads call them. Nothing is ever imported."""

    def __init__(self, declared: Iterable[AnyWorker | ModuleType]) -> None:
        self._specs: dict[str, Spec] = {}
        for item in declared:
            for spec in _specs(item):
                for name in (spec.name, *spec.given.aliases):
                    self._add(name, spec)

    def _add(self, name: str, spec: Spec) -> None:
        if self._specs.setdefault(name, spec) is not spec:
            raise ConfigError(f"two workers are called {name!r}; give one of them another name=...")

    def find(self, name: str) -> Spec:
        """The worker called `name`; UnknownWorker says which name is nearest."""
        spec = self._specs.get(name)
        if spec is not None:
            return spec
        hint = f"{suggest(name, self._specs)} ".lstrip()
        raise UnknownWorker(f"no worker is called {name!r}; {hint}Add it to App.workers")

    def get(self, name: str) -> Spec | None:
        """The worker called `name`, or None."""
        return self._specs.get(name)

    def declared(self, job: Job) -> dict[str, Any]:
        """What the worker of a job that was made by hand declares; {}: it is not of this app."""
        spec = self._specs.get(job.class_)
        return {} if spec is None else spec.declared(job)

    def local_queues(self) -> list[str]:
        """The queues of workers whose jobs run in the process that enqueues them."""
        return list(dict.fromkeys(s.given.queue for s in self.specs() if s.given.local))

    def specs(self) -> list[Spec]:
        """Each worker once."""
        return list(dict.fromkeys(self._specs.values()))


def _specs(item: object) -> list[Spec]:
    if isinstance(item, FunctionWorker):
        return [cast("FunctionWorker[..., Any, Any]", item).spec]
    if inspect.isclass(item) and issubclass(item, Worker) and item is not Worker:
        return [item.spec]
    if inspect.ismodule(item):
        members = vars(item).values()
        found = [spec for member in members if _is_worker(member) for spec in _specs(member)]
        if not found:
            raise ConfigError(
                f"workers: module {item.__name__} holds no worker: declare one there, or import it"
            )
        return found
    raise ConfigError(
        f"workers={item!r}: give @worker functions, Worker classes, or modules that hold them"
    )


def _is_worker(member: object) -> bool:
    if isinstance(member, FunctionWorker):
        return True
    return inspect.isclass(member) and issubclass(member, Worker) and member is not Worker
