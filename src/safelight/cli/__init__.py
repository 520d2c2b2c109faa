"""The command line: `safelight`.

This file puts the program together and turns every end of a run into an exit code. Each command
has its own module, which `commands` finds; commands that talk to a gateway speak HTTP only. `main`
is the entry point.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from safelight import __version__
from safelight.cli import output
from safelight.cli.commands import COMMANDS, add
from safelight.cli.errors import EXIT_CODE_MEANINGS, CliError, ExitCode
from safelight.cli.services import Services
from safelight.errors import ConfigError, SafelightError, StorageError

_EPILOG = "[bold]Exit codes[/]: " + " · ".join(
    f"{int(code)} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items()
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"safelight {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """A self-hosted, OpenAI-compatible image gateway: one order, one image, one charge.

    Start one with [bold]safelight serve[/]. Client commands find it by SAFELIGHT_URL and
    SAFELIGHT_API_KEY (else OPENAI_BASE_URL and OPENAI_API_KEY).
    """


def build(only: str | None = None) -> typer.Typer:
    """Return the program.

    Args:
        only: the one command that it shall have, a key of `COMMANDS`; None for all of them.
    """
    program = typer.Typer(
        name="safelight",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        epilog=_EPILOG,
    )
    program.callback()(_root)
    for name in COMMANDS if only is None else (only,):
        add(program, name)
    return program


def main(argv: Sequence[str] | None = None, services: Services | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments without the program's name; None takes those of the process.
        services: the local parts; None takes the real ones.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = _run(arguments, services or Services())
    output.let_go()
    return code


def _run(arguments: list[str], services: Services) -> int:
    """Carry out a command. Every end passes here, so that `--json` holds for each of them."""
    try:
        program = get_command(build(_asked_for(arguments)))
        with program.make_context("safelight", list(arguments), obj=services) as context:
            program.invoke(context)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _misused(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(CliError("interrupted", exit_code=ExitCode.INTERRUPTED), arguments)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does.
        return ExitCode.OK
    except (CliError, ConfigError, SafelightError, StorageError, OSError) as error:
        return _fail(_as_cli_error(error), arguments)
    return ExitCode.OK


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Return the command that is meant; None when all are needed, to help or to suggest one."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else None


def _misused(error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Report a command line that could not be read."""
    message = error.format_message()
    if not message:
        # A command without arguments: its help has been printed already.
        return ExitCode.USAGE
    command = getattr(getattr(error, "ctx", None), "command_path", "safelight")
    hint = f"See: {command} --help"
    return _fail(CliError(message, exit_code=ExitCode.USAGE, hint=hint), arguments)


def _as_cli_error(error: Exception) -> CliError:
    match error:
        case CliError():
            return error
        case ConfigError():
            return CliError(str(error), exit_code=ExitCode.USAGE)
        case SafelightError():
            return CliError(error.message, details={"code": error.code, "param": error.param})
        case _:
            return CliError(str(error))


def _fail(error: CliError, arguments: Sequence[str]) -> int:
    with contextlib.suppress(BrokenPipeError):
        output.print_error(error, as_json="--json" in arguments)
    return error.exit_code
