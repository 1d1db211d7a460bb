"""`saferule keys`: whose policies and recordings this robot trusts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.signing import KeyFolder

app = typer.Typer(
    no_args_is_help=True,
    help="""Whose policies and recordings this robot trusts.

What is made here is signed with this workspace's own key, which is made when it is first needed. What was made on
another machine is refused until that machine's public key is trusted here.""",
)


@app.command()
def new(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Make this workspace's own key, if it has none, and show it.

    Writes keys/own.pem (private, mode 0600: it never leaves this machine) and keys/trusted/own.pem (public).

    \b
    Example:
      saferule keys new
    """
    from saferule_ros.cli.output import print_facts, print_json
    from saferule_ros.signing import OWN

    keys = _keys(workspace)
    own = keys.own().public
    path = keys.trusted_path(OWN)
    if as_json:
        print_json({"name": OWN, "key_id": own.id, "public": str(path)})
        return
    print_facts([("key", own.id), ("public key", path), ("elsewhere", f"saferule keys trust {path.name} --name NAME")])


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Another machine's public key (PEM).")],
    name: Annotated[str, typer.Option("--name", help="What to call it; without: the file's name.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Trust what another machine signs: its policies may serve here from now on.

    Only with a file that came to you by a way that you trust. Writes keys/trusted/NAME.pem; to end
    the trust, remove that file.

    \b
    Example:
      saferule keys trust /media/usb/edge.pem --name edge
    """
    from saferule_ros.cli.output import note
    from saferule_ros.signing import PublicKey

    keys = _keys(workspace)
    key = PublicKey.read(file)
    name = name or file.stem
    keys.trust(name, key)
    note(f"{key.id} is trusted as {name}. To end that: rm {keys.trusted_path(name)}")


@app.command("list")
def list_keys(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the keys that are trusted.

    \b
    Example:
      saferule keys list --json
    """
    from saferule_ros.cli.output import note, print_json, print_table

    keys = _keys(workspace)
    rows = [(name, key.id, keys.trusted_path(name)) for name, key in sorted(keys.trusted().by_name.items())]
    if as_json:
        print_json([{"name": name, "key_id": key_id, "file": str(path)} for name, key_id, path in rows])
    elif rows:
        print_table(("name", "key", "file"), rows)
    else:
        note(f"No key is trusted in {keys.folder}. Make this workspace's own: saferule keys new")


def _keys(workspace: Path) -> KeyFolder:
    from saferule_ros.signing import KeyFolder

    return KeyFolder(Workspace(workspace).keys)
