"""Writes docs/options.md from kiqpy/options.py and kiqpy/_declare/options.py.

Run it as `python -m tests.docs.options_page`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from kiqpy import options as app_options
from kiqpy._declare import options as worker_options

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
_HEAD = """\
# Options

<!-- Written by `python -m tests.docs.options_page` from the options' docstrings. Change those. -->

Every option of an app and of a worker. A `duration` is a number of seconds or a `timedelta`. Type
checkers and editors know all options by name and type; what they cannot see is checked when the app
or the worker is made, with a `ConfigError` that names the option.

## An app

An option is a class attribute, or a keyword of the constructor, or set by the hook `init(config)`;
the later counts more. The options that hold in the end are in `jobs.config`.

```python
from kiqpy import App, Config, env


class Jobs(App):
    queues = {"default": 25, "mail": 50}
    shutdown_timeout = env("GRACE", cast=float, default=25.0)  # read when the app starts

    def init(self, config: Config) -> Config:
        return config.replace(max_running=500)


jobs = Jobs(redis_url="redis://localhost:6379/0")
```
"""
_WORKER = """\
## A worker

Options are keywords of `@worker(...)` and of a class: `class Export(Worker, queue="exports")`.
"""
_USING = """\
## One job

`.using(...)` makes jobs that have some options otherwise than their worker. It takes all options of
a worker but {missing}; and these:
"""
_NAMES = {
    "BackoffFunction": "function",
    "BackoffName": "str",
    "Codec[Any]": "Codec",
    "Duration": "duration",
    "Persist": '"before" | "alongside" | "never"',
    "ExecutorKind": '"async" | "thread" | "process"',
    "Hook": "function",
    "Instant": "datetime | float",
    "Iterable": "list",
    "LogLevel": '"debug" | "info" | "warning" | "error" | "critical"',
    "Mapping[str, Any]": "dict",
    "MiddlewareList": "list[middleware]",
    "PeriodicList": "list[Periodic | tuple]",
    "QueueSpec": "QueueGroup",
    "QueueTable": "dict[str, int | QueueGroup | None] | list[str | QueueGroup]",
    "ReporterList": "list[Reporter | type[Reporter]]",
    "SchedulerName": '"retry" | "schedule"',
    "Sequence": "list",
    "TestMode": '"sandbox" | "inline" | "fake" | "redis"',
    "Until": '"success" | "start" | "expiry"',
    "Url": "str | function",
    "WorkerList": "list[worker | module]",
    "Callable[..., Any]": "function",
}
_DEFAULTS = {
    "MappingProxyType({'default': 25})": '`{"default": 25}`',
    "MappingProxyType({})": "`{}`",
    "64 * 2 ** 20": "64 MiB",
    "2 ** 20": "1 MiB",
    "180 * 86400.0": "180 days",
    "()": "none",
}
_SECTION = re.compile(r"^    # -- (.+)$")


class Option(NamedTuple):
    """One option, as it is declared."""

    name: str
    type: str
    default: str
    text: str
    section: str = ""


def declared(source: str, class_name: str, defaults: dict[str, str] | None = None) -> list[Option]:
    """The annotated names of a class and the docstring below each. Without one: AssertionError."""
    found = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    lines = source.splitlines()
    made: list[Option] = []
    for item, below in zip(found.body, [*found.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        name = item.target.id
        kind = plain(item.annotation)
        default = ast.unparse(item.value) if item.value else (defaults or {}).get(name, "")
        made.append(
            Option(name, plain(item.annotation), shown(default, kind), docstring(name, below),
                   section(lines, item.lineno))
        )  # fmt: skip
    return made


def section(lines: list[str], number: int) -> str:
    """The heading above a line."""
    above = (_SECTION.match(line) for line in reversed(lines[:number]))
    return next((found[1] for found in above if found), "")


def docstring(name: str, node: ast.stmt | None) -> str:
    text = (
        node.value.value
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        else None
    )
    assert isinstance(text, str), f"option {name} has no docstring"
    return " ".join(text.split())


def plain(annotation: ast.expr) -> str:
    """A type in words that need no look into the source."""
    text = ast.unparse(annotation).removeprefix("ClassVar[")
    text = text[:-1] if text != ast.unparse(annotation) else text
    for name in sorted(_NAMES, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _NAMES[name], text)
    text = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " | "), text)
    return text.replace("'", '"')


def shown(default: str, kind: str) -> str:
    """A default as it stands in the table, durations with their unit."""
    if not default or default in _DEFAULTS:
        return _DEFAULTS.get(default, "")
    text = f"{int(default):,}" if default.isdigit() else re.sub(r"\.0$", "", default)
    text = text.replace("'", '"')
    return f"{text} s" if kind.startswith("duration") and text != "None" else f"`{text}`"


def rows(options: list[Option]) -> Iterator[str]:
    yield "| option | type | default | |\n|---|---|---|---|\n"
    for option in options:
        kind = option.type.replace("|", "\\|")
        yield f"| `{option.name}` | `{kind}` | {option.default} | {option.text} |\n"


def app_part(options: list[Option]) -> Iterator[str]:
    for heading in dict.fromkeys(option.section for option in options):
        yield f"\n### {heading.capitalize()}\n\n"
        yield from rows([option for option in options if option.section == heading])


def worker_defaults() -> dict[str, str]:
    return {field.name: repr(field.default) for field in fields(worker_options.Options)}


def current() -> str:
    """The page as it must be now."""
    ours = inspect.getsource(app_options)
    theirs = inspect.getsource(worker_options)
    common = declared(theirs, "_JobOptions", worker_defaults())
    workers = declared(theirs, "WorkerOptions", worker_defaults())
    using = declared(theirs, "UsingOptions", {})
    named = {option.name for option in using}
    missing = ", ".join(f"`{option.name}`" for option in workers if option.name not in named)
    return "".join([
        _HEAD,
        *app_part(declared(ours, "Declaration")),
        "\n",
        _WORKER,
        "\n",
        *rows([*common, *workers]),
        "\n",
        _USING.format(missing=missing),
        "\n",
        *rows(using),
    ])  # fmt: skip


def annotations(module: Any, class_name: str) -> dict[str, str]:
    """Each annotated name of a class of a module, with its type as it is written."""
    tree = ast.parse(inspect.getsource(module))
    found = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == class_name)
    return {
        item.target.id: ast.unparse(item.annotation)
        for item in found.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


if __name__ == "__main__":
    PAGE.write_text(current(), "utf-8")
