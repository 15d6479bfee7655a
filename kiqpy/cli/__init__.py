"""The command `kiqpy`. An error of its user is one line on stderr that says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from kiqpy._runtime.version import version
from kiqpy.cli._screen import complain
from kiqpy.cli.admin_commands import (
    cancel,
    delete,
    enqueue,
    kill,
    pause,
    quiet,
    resume,
    retry,
    stop,
)
from kiqpy.cli.cron import cron
from kiqpy.cli.demo import demo
from kiqpy.cli.inspect_commands import jobs, queues, show, stats, workers
from kiqpy.cli.new import new
from kiqpy.cli.run import run
from kiqpy.cli.top import top
from kiqpy.cli.web import web
from kiqpy.errors import ConfigError, KiqError, StoreUnavailable, suggest

__all__ = ["main"]


class _Commands(click.Group):
    """A group that suggests the command that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            hint = suggest(args[0], known) or "the commands are " + ", ".join(known)
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="kiqpy")
def _kiqpy() -> None:
    """Background jobs for asyncio on Redis, in Sidekiq's format."""


_kiqpy.add_command(run)
_kiqpy.add_command(cron)
_kiqpy.add_command(demo)
for _command in (
    stats,
    queues,
    jobs,
    show,
    workers,
    enqueue,
    retry,
    kill,
    delete,
    cancel,
    pause,
    resume,
    quiet,
    stop,
):
    _kiqpy.add_command(_command)
_kiqpy.add_command(top)
_kiqpy.add_command(web)
_kiqpy.add_command(new)


def _check_environment() -> None:
    """ConfigError for a variable whose name is nearly one that a command reads."""
    known = {"KIQPY_REDIS_URL", "KIQPY_SERVER_BIN", "KIQPY_WEB_AUTH"}
    for command in _kiqpy.commands.values():
        known |= {str(each.envvar) for each in command.params if each.envvar}
    for name in os.environ:
        if name.startswith("KIQPY_") and name not in known and (near := suggest(name, known, 0.9)):
            raise ConfigError(f"no command reads the environment variable {name}; {near}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: the configuration or the store does not allow it. 2: unknown command or option.
    70: a defect in kiqpy. 75: threads that could not be stopped were abandoned. 130: interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _check_environment()
        code = _kiqpy.main(given, prog_name="kiqpy", standalone_mode=False)
    except StoreUnavailable as error:
        complain(f"{str(error).rstrip('.')}; check that the server is up and that the URL is right")
        return 1
    except KiqError as error:
        complain(error)
        return 1
    except click.ClickException as error:
        complain(_usage(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = context.command_path if context is not None else "kiqpy"
    return f"{error.format_message().rstrip('.')} (see {where} --help)"
