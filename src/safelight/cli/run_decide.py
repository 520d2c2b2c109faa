"""`safelight run accept` and `safelight run reject`: a person decides about a run's picture.

Owns the options and the words. What a decision means is `safelight.client.runs.deciding`'s.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.run_options import To

if TYPE_CHECKING:
    from safelight.client.runs import Decided

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The run's folder.")]
Item = Annotated[
    str, typer.Argument(metavar="ITEM", help="The picture's file, the item's name, or its id.")
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decides.", show_default="who is logged in"),
]


def accept(
    folder: Folder,
    item: Item,
    roll: Annotated[
        int | None,
        typer.Option("--roll", min=1, help="Which of its pictures.", show_default="the newest"),
    ] = None,
    by: By = None,
    to: To = None,
    as_json: options.Json = False,
) -> None:
    """Accept a picture that its gates have rejected; nothing is bought.

    The next start of the run finds it done, and makes contact sheet and deck with it.
    """
    from safelight.client.runs import accept as decide  # noqa: PLC0415 - heavy

    decided = _carry_out(decide(folder, item, by=_who(by), roll=roll, to=to))
    words = "accepted" if decided.changed else "accepted already: nothing was changed"
    _tell("accepted", decided, words, as_json=as_json)


def reject(folder: Folder, item: Item, by: By = None, as_json: options.Json = False) -> None:
    """Reject an accepted picture: the next start of the run buys another, within --rerolls."""
    from safelight.client.runs import reject as decide  # noqa: PLC0415 - heavy

    decided = _carry_out(decide(folder, item, by=_who(by)))
    words = (
        "rejected: the same run again orders another, if --rerolls leaves one"
        if decided.changed
        else "rejected already: run again with a larger --rerolls to order another"
    )
    _tell("rejected", decided, words, as_json=as_json)


def _carry_out(decision: Coroutine[Any, Any, Decided]) -> Decided:
    from safelight.cli.run_errors import as_cli_error  # noqa: PLC0415 - heavy
    from safelight.client.errors import ClientError  # noqa: PLC0415 - as above

    try:
        return asyncio.run(decision)
    except (ClientError, OSError) as error:
        raise as_cli_error(error, {}) from error


def _who(by: str | None) -> str:
    if by is not None:
        name = " ".join(by.split())
    else:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container may know no name for its user
            name = ""
    if not name:
        raise CliError(
            "nobody knows who decides this",
            exit_code=ExitCode.USAGE,
            hint="Add --by NAME: it stands in the manifest.",
        )
    return name[:100]


def _tell(decision: str, decided: Decided, words: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "object": "run.decision",
                "decision": decision,
                "item": decided.item_id,
                "out": decided.out,
                "roll": decided.roll,
                "path": str(decided.path),
                "by": decided.by or None,
                "at": decided.at,
                "changed": decided.changed,
                "carried": decided.carried,
            }
        )
        return
    facts = [(decided.out or decided.item_id, words), ("picture", str(decided.path))]
    facts.append(("by", decided.by or "its gates"))
    if decided.carried:
        facts.append(("carried", f"{decided.carried} files"))
    output.print_facts(facts)
