"""What a test expects of a job, how an enqueued one differs from it, and both in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast, final

from kiqpy._declare.checks import duration, instant
from kiqpy._registry import Registry
from kiqpy._spec import Spec
from kiqpy.errors import ConfigError, UnknownWorker
from kiqpy.job import Job
from kiqpy.testing._sandbox.scope import Scope
from kiqpy.worker import AnyWorker

_EXACT_S: Final = 0.001
_CLOSE_S: Final = 1.0  # an instant against a delay: real time passes between the two


class Enqueued(NamedTuple):
    """A job as it was enqueued, at which epoch second, and by whom."""

    job: Job
    now: float
    scope: Scope

    def due(self) -> float | None:
        """Epoch second of a job that was put off."""
        if self.job.at_s is not None:
            return self.job.at_s
        return None if self.job.in_s is None else self.now + self.job.in_s

    def describe(self, registry: Registry) -> str:
        """In words: `welcome(7, lang='fr') in queue 'mail', due in 60 s`."""
        due = self.due()
        when = "" if due is None else f", due in {due - self.now:g} s"
        return f"{as_call(self.job, registry)} in queue {self.job.queue!r}{when}"


@final
class Expectation:
    """A worker (or its class name, or None for any) and the fields that count; no others do."""

    def __init__(
        self, worker: AnyWorker | str | None, args: object, fields: Mapping[str, Any]
    ) -> None:
        self._spec = _spec(worker)
        self.name = worker if isinstance(worker, str) else self._spec and self._spec.name
        self._fields = dict(fields)
        self._named: dict[str, Any] | None = None
        self._listed: list[Any] | None = None
        if isinstance(args, dict):
            self._named = cast("dict[str, Any]", args)
        elif isinstance(args, list | tuple):
            self._listed = list(cast("list[Any]", args))
        elif args is not None:
            raise ConfigError(
                f"args={args!r}: give a list, or a dict of parameter names and values"
            )

    def __str__(self) -> str:
        args = self._listed if self._named is None else self._named
        asked = {} if args is None else {"args": args}
        details = ", ".join(f"{k}={v!r}" for k, v in {**asked, **self._fields}.items())
        return f"{self.name or 'any worker'}{' with ' if details else ''}{details}"

    def names(self, job: Job) -> bool:
        """Whether the job is of this worker, under any of its names."""
        known = (*self._spec.given.aliases, self.name) if self._spec else (self.name,)
        return self.name is None or job.class_ in known

    def mismatches(self, entry: Enqueued, registry: Registry) -> list[str]:
        """How a job of this worker differs, field by field; nothing: it is one of those."""
        spec = self._spec or spec_of(entry.job, registry)
        found: list[str] = []
        if self._named is not None:
            found += _named_fault(self._named, entry.job, spec)
        if self._listed is not None:
            found += _listed_fault(self._listed, entry.job, spec)
        for name, value in self._fields.items():
            found += _field_fault(entry, name, value)
        return found


def _spec(worker: AnyWorker | str | None) -> Spec | None:
    if worker is None or isinstance(worker, str):
        return None
    spec = getattr(worker, "spec", None)
    if not isinstance(spec, Spec):
        raise ConfigError(f"{worker!r} is no worker: give one, or its class name as a string")
    return spec


def spec_of(job: Job, registry: Registry) -> Spec | None:
    """The declaration of the job's worker, if this app has it."""
    try:
        return registry.find(job.class_)
    except UnknownWorker:
        return None


def as_call(job: Job, registry: Registry) -> str:
    """The job as a call in Python."""
    spec = spec_of(job, registry)
    args, kwargs = spec.arguments(job.args) if spec else (job.args, {})
    words = [repr(value) for value in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
    return f"{job.class_}({', '.join(words)})"


def same(expected: object, found: object) -> bool:
    """Equal; of an object only the keys that are expected count, at any depth."""
    if isinstance(expected, Mapping):
        wanted = cast("Mapping[str, object]", expected)
        held = cast("dict[str, object]", found) if isinstance(found, dict) else None
        return held is not None and all(k in held and same(v, held[k]) for k, v in wanted.items())
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple):
            return False
        left, right = cast("list[object]", expected), cast("list[object]", found)
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(expected, bool) != isinstance(found, bool) and type(expected) in (bool, int):
        return False  # 1 is not true, in JSON
    return bool(expected == found)


def _listed_fault(expected: list[Any], job: Job, spec: Spec | None) -> list[str]:
    """The list as it was given to `new`: what it leaves to defaults is compared with those."""
    if same(expected, job.args):
        return []
    if spec is not None and same(_completed(expected, spec), spec.arguments(job.args)[0]):
        return []
    return [f"args: expected {expected!r}, got {job.args!r}"]


def _completed(args: list[Any], spec: Spec) -> list[Any]:
    try:
        bound = spec.signature.bind_partial(*args)
    except TypeError:  # too many; then they do not fit either
        return args
    bound.apply_defaults()
    return list(bound.args)


def _named_fault(expected: Mapping[str, Any], job: Job, spec: Spec | None) -> list[str]:
    if spec is None:
        return [f"args: {job.class_} is not declared here, so its parameters have no names"]
    held, mismatches = _bound(job, spec), list[str]()
    for name, value in expected.items():
        if name not in held:
            mismatches.append(f"args: there is no {name!r}, only {', '.join(held) or 'nothing'}")
        elif not same(value, held[name]):
            mismatches.append(f"args: {name}: expected {value!r}, got {held[name]!r}")
    return mismatches


def _bound(job: Job, spec: Spec) -> dict[str, Any]:
    """The arguments by parameter name, defaults included."""
    args, kwargs = spec.arguments(job.args)
    try:
        bound = spec.signature.bind(*args, **kwargs)
    except TypeError:  # made by somebody else, by another signature
        return dict(zip(spec.names, args, strict=False)) | kwargs
    bound.apply_defaults()
    return bound.arguments


def _field_fault(entry: Enqueued, name: str, value: Any) -> list[str]:
    if name in ("in_", "at"):
        return _due_fault(entry, name, value)
    held: dict[str, Any] = {**entry.job.payload, "queue": entry.job.queue}
    if name not in held:
        return [f"{name}: expected {value!r}, but the job has no such field"]
    return [] if same(value, held[name]) else [f"{name}: expected {value!r}, got {held[name]!r}"]


def _due_fault(entry: Enqueued, name: str, value: Any) -> list[str]:
    due, by_delay = entry.due(), entry.job.at_s is None
    wanted = instant(name, value) if name == "at" else entry.now + duration(name, value)
    if due is None:
        return [f"{name}: expected {value!r}, but the job was not put off"]
    if abs(due - wanted) <= (_EXACT_S if by_delay == (name == "in_") else _CLOSE_S):
        return []
    shown = f"{due - entry.now:g} s" if name == "in_" else datetime.fromtimestamp(due, UTC)
    return [f"{name}: expected {value!r}, got {shown}"]
