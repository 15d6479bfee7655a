"""`kiqpy new app|worker|reporter`: a first version of a file that everybody has to write."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

import click

from kiqpy._declare.checks import queue_name
from kiqpy.cli import _project
from kiqpy.errors import ConfigError

_TAKEN: Final = {"App", "Job", "JobFailure", "JobSuccess", "Reporter", "Worker", "worker"} | {
    "app", "log", "logging",
}  # fmt: skip
_WIDTH: Final = 88  # what ruff and black hold a line to
_LONGEST: Final = 64


@click.group(
    invoke_without_command=True, short_help="write an app, a worker or a reporter to begin with"
)
@click.pass_context
def new(context: click.Context) -> None:
    """Write a file to begin with. No file is ever overwritten, unless --force says so."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _common(command: Any) -> Any:
    """The options of all generators."""
    for option in (
        click.argument("name", metavar="NAME"),
        click.option("--path", metavar="PATH", help="The file or folder to write to."),
        click.option("--force", is_flag=True, help="Overwrite a file that is there."),
    ):
        command = option(command)
    return command


@new.command()
@_common
def app(name: str, path: str | None, force: bool) -> None:
    """Write an app, and its name into pyproject.toml, so that `kiqpy run` finds it."""
    made = _make("app", _class(name), path, force=force)
    target, here = f"{made}:app", Path.cwd()
    known = _project.app_of(here)
    if known is None and _project.name_app(here, target):
        click.echo(f'added [tool.kiqpy] app = "{target}" to pyproject.toml')
    elif known != target:
        click.echo(f'for a plain `kiqpy run`, pyproject.toml needs: [tool.kiqpy] app = "{target}"')
    click.echo(f"next: kiqpy new worker SendWelcome, then kiqpy run {target}")


@new.command()
@_common
@click.option("-q", "--queue", default="default", metavar="QUEUE", show_default=True)
@click.option(
    "-r", "--retries", type=click.IntRange(min=0), metavar="N", help="How often.  [default: 25]"
)
@click.option("--no-dead", is_flag=True, help="Do not keep the job when its retries are used up.")
def worker(
    name: str, path: str | None, force: bool, queue: str, retries: int | None, no_dead: bool
) -> None:
    """Write a worker: SendWelcome is a class, send_welcome a function."""
    options = [f'queue="{queue_name(queue)}"']
    options += [] if retries is None else [f"retry={retries}"]
    options += ["dead=False"] if no_dead else []
    if _checked(name)[0].isupper():
        kind, declaration = "worker_class", _call(f"class {name}", ["Worker", *options], ":")
    else:
        kind, declaration = "worker_function", _call("@worker", options, "")
    module = _make(kind, name, path, force=force, declaration=declaration)
    _tell(module, f"workers = [{name}]", f'queues = {{"{queue}": 25}}')


@new.command()
@_common
def reporter(name: str, path: str | None, force: bool) -> None:
    """Write a reporter, which hears what becomes of jobs."""
    name = _class(name)
    module = _make("reporter", name, path, force=force)
    _tell(module, f"reporters = [{name}]")


def _make(kind: str, name: str, path: str | None, *, force: bool, declaration: str = "") -> str:
    """Write the file; the module's name."""
    here = Path.cwd()
    file, module = _project.place(here, _module(name), path)
    template = Template(
        resources.files("kiqpy.cli").joinpath(f"templates/{kind}.txt").read_text("utf-8")
    )
    text = template.substitute(Name=name, module=module, declaration=declaration)
    _project.write(file, text, force=force)
    click.echo(f"wrote {file.relative_to(here)}")
    return module


def _tell(module: str, *attributes: str) -> None:
    """What is left to do in the app, wherever that is."""
    name = attributes[0].partition("[")[2].rstrip("]")
    known = _project.app_of(Path.cwd())
    click.echo(f"next: add to your app{f' ({known})' if known else ''}:")
    click.echo(f"    from {module} import {name}")
    for line in attributes:
        click.echo(f"    {line}")


def _checked(name: str) -> str:
    """`name`, if Python lets it be a class, a function and a module."""
    if not name.isidentifier() or name.startswith("_") or not name.isascii():
        raise ConfigError(f"{name!r} is no name: use letters, digits and _, as in SendWelcome")
    if keyword.iskeyword(name) or keyword.iskeyword(name.lower()):
        raise ConfigError(f"{name!r} is a word of Python's own: use another name")
    if name in _TAKEN:
        raise ConfigError(f"{name!r} is used in the file already: use another name, as in My{name}")
    if len(name) > _LONGEST:
        raise ConfigError(f"a name of {len(name)} characters: use {_LONGEST} at most")
    return name


def _class(name: str) -> str:
    """my_shop -> MyShop; what is written like a class stays as it is."""
    words = _checked(name).split("_")
    return _checked(name if name[0].isupper() else "".join(w[:1].upper() + w[1:] for w in words))


def _module(name: str) -> str:
    """SendWelcome -> send_welcome, HTTPCall -> http_call."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _call(head: str, arguments: Sequence[str], tail: str) -> str:
    """`head(arguments)tail`, broken as ruff and black break it."""
    joined = ", ".join(arguments)
    if len(f"{head}({joined}){tail}") <= _WIDTH:
        return f"{head}({joined}){tail}"
    if len(joined) + 4 <= _WIDTH:
        return f"{head}(\n    {joined}\n){tail}"
    return f"{head}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){tail}"
