"""`safelight run`: many pictures, from a plan file or by a recipe.

Owns how the two are told apart, and how a recipe's own options and those of every run become one
command. The first word is a recipe's name, `accept` or `reject`, else a file. Recipes are found by
entry points of the group `safelight.recipes`; none is loaded before it is named. What a run does is
`safelight.client.runs`'.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup
from typer.main import get_command

from safelight.cli import run_decide, run_options
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.run_options import RunOptions

GROUP = "safelight.recipes"
FILE = "FILE"
"""The name that the command for plan files has among the recipes."""
OWN: Mapping[str, Callable[..., None]] = {"accept": run_decide.accept, "reject": run_decide.reject}
"""Commands about runs that are there already; no recipe can have these names."""
ARGUMENTS = "safelight.run.arguments"
"""Where the words of the command line are kept, for the command that goes on."""


def recipes() -> dict[str, EntryPoint]:
    """Return the recipes that are installed, by name."""
    return {one.name: one for one in sorted(entry_points(group=GROUP), key=lambda one: one.name)}


class Runs(TyperGroup):
    """The commands of `run`; each is made when it is asked for."""

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """All of them, by name; each recipe is loaded for it."""
        return self._every

    @commands.setter
    def commands(self, _made: MutableMapping[str, Any]) -> None:
        """There are none but those that are found here."""

    @cached_property
    def _every(self) -> MutableMapping[str, Any]:
        return {name: _command(name) for name in (FILE, *OWN, *recipes())}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the group's interface
        """Return their names."""
        return [FILE, *OWN, *recipes()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the group's interface
        """Return one of them; None: there is no such recipe."""
        return _command(cmd_name) if cmd_name in (FILE, *OWN, *recipes()) else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Take the first word for a recipe's name, else for a file."""
        ctx.meta[ARGUMENTS] = tuple(args)
        name = args[0]
        if name in OWN or name in recipes():
            return name, _command(name), args[1:]
        if not name.startswith("-") and "." not in name and not Path(name).exists():
            known = ", ".join(recipes()) or "none is installed"
            raise CliError(
                f"{name!r} is neither a recipe ({known}) nor a file",
                exit_code=ExitCode.USAGE,
                hint="A plan is a file that ends with .csv, .jsonl or .toml.",
            )
        return FILE, _command(FILE), args


run = typer.Typer(
    cls=Runs,
    name="run",
    no_args_is_help=True,
    subcommand_metavar="FILE|RECIPE|accept|reject [OPTIONS]",
    # Options may stand before the file.
    context_settings={"ignore_unknown_options": True},
    help="Make many pictures: from a plan file (.csv, .jsonl, .toml) or by a recipe.",
)


@run.callback()
def _runs() -> None:
    """Make many pictures: from a plan file (.csv, .jsonl, .toml) or by a recipe.

    A forecast comes first: pictures, cost, time. Run the same command again to go on where it
    stopped: no picture is bought twice.
    """


def _command(name: str) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    made: Callable[..., None] = _from_file if name == FILE else OWN.get(name) or _by_recipe(name)
    app.command(name=name)(made)
    return get_command(app)


# --- files -----------------------------------------------------------------------------------


def _file_signature(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan: .csv, .jsonl or .toml.")],
    prompt: run_options.Prompt = None,
    parameter: run_options.Parameters = None,
    model: run_options.Model = None,
    size: run_options.Size = None,
    sheet: run_options.Sheet = False,
) -> None:
    """Carry out a plan file: a row is a picture."""


def _from_file(context: typer.Context, **given: Any) -> None:
    """Carry out a plan file: a row is a picture."""
    from safelight.cli.run_work import FileWish, work_file  # noqa: PLC0415 - see `_by_recipe`

    options = _options(given)
    wish = FileWish(**{name: value for name, value in given.items() if name in _FILE_NAMES})
    work_file(context, wish, options)


# --- recipes ---------------------------------------------------------------------------------


def _by_recipe(name: str) -> Callable[..., None]:
    """Return the command of a recipe: its own options, then those of every run.

    Raises:
        CliError: it cannot be loaded, as where its packages are missing.
    """
    try:
        recipe = recipes()[name].load()
    except ImportError as error:
        raise CliError(
            f"the recipe {name!r} cannot be loaded: {error}",
            exit_code=ExitCode.USAGE,
            hint="The recipes that ship need: pip install 'safelight[recipes]'",
        ) from error

    def command(context: typer.Context, **given: Any) -> None:
        # Loaded late: `safelight --help` needs neither the client nor runs.
        from safelight.cli.run_work import work_recipe  # noqa: PLC0415

        own = {name: given[name] for name in inspect.signature(recipe).parameters}
        work_recipe(context, lambda: recipe(**own), _options(given))

    command.__doc__ = _first_words(recipe)
    _sign(command, recipe)
    return command


def _first_words(recipe: Callable[..., Any]) -> str:
    """Return what a recipe's docstring says for people, without its sections."""
    text = inspect.getdoc(recipe) or ""
    return text.partition("\n\nRaises:")[0].partition("\n\nArgs:")[0]


def _sign(command: Any, own: Callable[..., Any]) -> None:
    """Give a command the parameters of `own`, and those of every run that it has not itself."""
    hints = get_type_hints(own, include_extras=True)
    parameters = [
        one.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(own).parameters.items()
    ]
    taken = {word for one in parameters for word in _option_words(one.annotation)}
    run_hints = get_type_hints(RunOptions, include_extras=True)
    for field in fields(RunOptions):
        annotation = run_hints[field.name]
        if field.name == "folder" and taken & _option_words(annotation):
            annotation = run_options.FolderOnly
        if field.name not in hints:
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=annotation,
                )
            )
    first = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    command.__signature__ = inspect.Signature([first, *parameters])
    command.__annotations__ = {one.name: one.annotation for one in (first, *parameters)}


def _option_words(annotation: Any) -> set[str]:
    """Return the words (`--out`, `-o`) that an annotated parameter takes."""
    infos = getattr(annotation, "__metadata__", ())
    # The first word of an annotated option is where typer has the default of older styles.
    words = [
        (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
        for info in infos
    ]
    return {word for each in words for word in each if isinstance(word, str) and word[:1] == "-"}


def _options(given: dict[str, Any]) -> RunOptions:
    names = {field.name for field in fields(RunOptions)}
    return RunOptions(**{name: value for name, value in given.items() if name in names})


_FILE_NAMES = frozenset(inspect.signature(_file_signature).parameters)
_sign(_from_file, _file_signature)
