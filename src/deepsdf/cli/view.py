"""The verb that opens the viewer: view."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click

from deepsdf.cli.common import INTERRUPTED, checkpoint_option, common_options, count, device_option, say


@click.command()
@click.argument("what", nargs=-1, type=click.Path(path_type=Path), metavar="[WHAT]...")
@click.option("--experiment", "-e", type=click.Path(path_type=Path), help="The experiment whose space is shown.")
@checkpoint_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Who may look: this machine alone, or 0.0.0.0.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Of the page's address.")
@click.option("--up", default="y", show_default=True, type=click.Choice(["x", "y", "z"]), help="The axis that is up.")
@click.option(
    "--finest",
    default="256",
    show_default=True,
    type=click.Choice(["128", "256", "512"]),
    help="Samples an axis to which a shape is refined once the hand rests.",
)
@device_option
@common_options
def view(
    what: tuple[Path, ...],
    experiment: Path | None,
    checkpoint: str,
    host: str,
    port: int,
    up: Any,
    finest: str,
    device: str,
) -> None:
    """Look at a shape space, a data source or a file, in the browser.

    With -e: the shapes of an experiment, and all between them. A training that runs is followed. WHAT may name more
    shapes of it: code files (.pth), or the .json that `deepsdf complete` writes.

    Without: WHAT is a data source, whose shapes and verdicts are walked through, or one file: a mesh, SDF samples
    (.npz), a point cloud or a scan.

    \b
    deepsdf view -e EXP
    deepsdf view -e EXP out/whole.json
    deepsdf view data
    deepsdf view chair.obj

    Needs `pip install deepsdf[viewer]`. Ctrl-C ends it.
    """
    from deepsdf.viewer.opening import open_page
    from deepsdf.viewer.serve import LOOPBACK, Server

    opened = open_page(what, experiment, checkpoint=checkpoint, up=up, finest=int(finest), device=device)
    try:
        server = Server(opened.make, host=host, port=port, up=up)
        try:
            say(f"{opened.title} is at {server.url}")
            if host not in LOOPBACK:
                say(f"Whoever reaches {host} can look, and drop in files. There is no password.")
            say("Ctrl-C ends it.")
            threading.Event().wait()
        except KeyboardInterrupt:
            say(f"Stopped; {count(len(server.pages), 'page')} open.")
            raise SystemExit(INTERRUPTED) from None
        finally:
            server.close()
    finally:
        opened.close()
