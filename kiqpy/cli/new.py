"""`kiqpy new app|worker|reporter`: writes a first version of a file that every project needs."""

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
    "app",
    "log",
    "logging",
}
_LINE_LENGTH: Final = 88  # of ruff and black
_MAX_NAME_LENGTH: Final = 64


@click.group(invoke_without_command=True, short_help="create an app, a worker or a reporter")
@click.pass_context
def new(context: click.Context) -> None:
    """Create a file to start from. An existing file is overwritten only with --force."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _common(command: Any) -> Any:
    """Add the options of all generators."""
    for option in (
        click.argument("name", metavar="NAME"),
        click.option("--path", metavar="PATH", help="The file or folder to write to."),
        click.option("--force", is_flag=True, help="Overwrite an existing file."),
    ):
        command = option(command)
    return command


@new.command(short_help="create an app, and name it in pyproject.toml")
@_common
def app(name: str, path: str | None, force: bool) -> None:
    """Create an app, and name it in pyproject.toml so that `kiqpy run` finds it."""
    made = _make("app", _class(name), path, force=force)
    target, here = f"{made}:app", Path.cwd()
    known = _project.app_of(here)
    if known is None and _project.name_app(here, target):
        click.echo(f'added [tool.kiqpy] app = "{target}" to pyproject.toml')
    elif known != target:
        click.echo(f'for a plain `kiqpy run`, pyproject.toml needs: [tool.kiqpy] app = "{target}"')
    click.echo(f"next: kiqpy new worker SendWelcome, then kiqpy run {target}")


@new.command(short_help="create a worker: a class or a function")
@_common
@click.option(
    "-q", "--queue", default="default", metavar="QUEUE", show_default=True, help="Its queue."
)
@click.option(
    "-r",
    "--retry",
    "--retries",
    "retries",
    type=click.IntRange(min=0),
    metavar="N",
    help="Retry a failed job N times.  [default: 25]",
)
@click.option(
    "--no-dead",
    is_flag=True,
    help="Delete a job after its last retry instead of keeping it in the dead set.",
)
def worker(
    name: str, path: str | None, force: bool, queue: str, retries: int | None, no_dead: bool
) -> None:
    """Create a worker: a class for SendWelcome, a function for send_welcome."""
    options = [f'queue="{queue_name(queue)}"']
    options += [] if retries is None else [f"retry={retries}"]
    options += ["dead=False"] if no_dead else []
    if _checked(name)[0].isupper():
        kind, declaration = "worker_class", _call(f"class {name}", ["Worker", *options], ":")
    else:
        kind, declaration = "worker_function", _call("@worker", options, "")
    module = _make(kind, name, path, force=force, declaration=declaration)
    _print_next(module, f"workers = [{name}]", f'queues = {{"{queue}": 25}}')


@new.command(short_help="create a reporter")
@_common
def reporter(name: str, path: str | None, force: bool) -> None:
    """Create a reporter, which is called with the outcome of jobs."""
    name = _class(name)
    module = _make("reporter", name, path, force=force)
    _print_next(module, f"reporters = [{name}]")


def _make(kind: str, name: str, path: str | None, *, force: bool, declaration: str = "") -> str:
    """Write the file; returns the module's name."""
    here = Path.cwd()
    file, module = _project.place(here, _module(name), path)
    template = Template(
        resources.files("kiqpy.cli").joinpath(f"templates/{kind}.txt").read_text("utf-8")
    )
    text = template.substitute(Name=name, module=module, declaration=declaration)
    _project.write(file, text, force=force)
    click.echo(f"wrote {file.relative_to(here)}")
    return module


def _print_next(module: str, *attributes: str) -> None:
    """Print what to add to the app."""
    name = attributes[0].partition("[")[2].rstrip("]")
    known = _project.app_of(Path.cwd())
    click.echo(f"next: add to your app{f' ({known})' if known else ''}:")
    click.echo(f"    from {module} import {name}")
    for line in attributes:
        click.echo(f"    {line}")


def _checked(name: str) -> str:
    """The name, if Python allows it for a class, a function and a module. Raises ConfigError."""
    if not name.isidentifier() or name.startswith("_") or not name.isascii():
        raise ConfigError(
            f"{name!r} is not a valid name: use letters, digits and _, as in SendWelcome"
        )
    if keyword.iskeyword(name) or keyword.iskeyword(name.lower()):
        raise ConfigError(f"{name!r} is a Python keyword: use another name")
    if name in _TAKEN:
        raise ConfigError(
            f"{name!r} is already used in the file: use another name, such as My{name}"
        )
    if len(name) > _MAX_NAME_LENGTH:
        raise ConfigError(f"the name has {len(name)} characters: use at most {_MAX_NAME_LENGTH}")
    return name


def _class(name: str) -> str:
    """my_shop -> MyShop; a name that begins with a capital stays as it is."""
    words = _checked(name).split("_")
    return _checked(name if name[0].isupper() else "".join(w[:1].upper() + w[1:] for w in words))


def _module(name: str) -> str:
    """SendWelcome -> send_welcome, HTTPCall -> http_call."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _call(head: str, arguments: Sequence[str], tail: str) -> str:
    """`head(arguments)tail`, wrapped as ruff and black wrap it."""
    joined = ", ".join(arguments)
    if len(f"{head}({joined}){tail}") <= _LINE_LENGTH:
        return f"{head}({joined}){tail}"
    if len(joined) + 4 <= _LINE_LENGTH:
        return f"{head}(\n    {joined}\n){tail}"
    return f"{head}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){tail}"
