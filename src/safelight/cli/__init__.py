"""The command line: `safelight`.

This file puts the commands together and turns every end of a run into an exit code. Each command
has its own module; commands that talk to a gateway speak HTTP only. `main` is the entry point.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from safelight import __version__
from safelight.cli import (
    accounts,
    admin,
    backup,
    batch,
    bench,
    credit,
    demo,
    doctor,
    edit,
    export,
    generate,
    images,
    keys,
    mcp,
    migrate,
    output,
    receipt,
    reconcile,
    refund,
    run,
    serve,
    sizes,
    statement,
    storage,
    vendor_batches,
    verify,
    webhooks,
    worker,
)
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


def build() -> typer.Typer:
    """Return the program with all its commands."""
    program = typer.Typer(
        name="safelight",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        epilog=_EPILOG,
    )
    program.callback()(_root)
    running, pictures, money = "Run", "Make pictures", "Keys and money"
    program.command(rich_help_panel=running)(serve.serve)
    program.command(rich_help_panel=running)(worker.worker)
    program.command(rich_help_panel=running)(demo.demo)
    program.command(rich_help_panel=running)(accounts.accounts)
    program.command(rich_help_panel=running)(vendor_batches.vendor_batches)
    program.command(rich_help_panel=running)(doctor.doctor)
    program.command(rich_help_panel=running)(migrate.migrate)
    program.command(rich_help_panel=running)(backup.backup)
    program.command(rich_help_panel=running)(backup.restore)
    program.add_typer(storage.storage, name="storage", rich_help_panel=running)
    program.add_typer(images.images, name="images", rich_help_panel=running)
    program.add_typer(bench.benches, name="bench", rich_help_panel=running)
    program.command(rich_help_panel=pictures)(generate.generate)
    program.command(rich_help_panel=pictures)(edit.edit)
    program.command(rich_help_panel=pictures)(sizes.sizes)
    program.command(rich_help_panel=pictures)(mcp.mcp)
    program.add_typer(run.run, name="run", rich_help_panel=pictures)
    program.add_typer(batch.batch, name="batch", rich_help_panel=pictures)
    program.add_typer(webhooks.webhooks, name="webhooks", rich_help_panel=pictures)
    program.add_typer(keys.keys, name="keys", rich_help_panel=money)
    program.add_typer(admin.admin, name="admin", rich_help_panel=money)
    # An amount such as -5.00 is an argument, not options named 5, . and 0.
    program.command(rich_help_panel=money, context_settings={"ignore_unknown_options": True})(
        credit.credit
    )
    program.command(rich_help_panel=money)(refund.refund)
    program.command(rich_help_panel=money)(statement.statement)
    program.command(rich_help_panel=money)(receipt.receipt)
    program.command(rich_help_panel=money)(export.export)
    program.command(rich_help_panel=money)(reconcile.reconcile)
    program.command(rich_help_panel=money)(verify.verify)
    program.command(rich_help_panel=money)(verify.freeze)
    program.command(rich_help_panel=money)(verify.unfreeze)
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
        program = get_command(build())
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
