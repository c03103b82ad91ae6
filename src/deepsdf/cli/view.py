"""The verb that serves the viewer: view."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click

from deepsdf.cli.console import INTERRUPTED, common_options, count, say
from deepsdf.cli.options import checkpoint_option, device_option


@click.command()
@click.argument("what", nargs=-1, type=click.Path(path_type=Path), metavar="[WHAT]...")
@click.option("--experiment", "-e", type=click.Path(path_type=Path), help="Folder of the experiment to explore.")
@checkpoint_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to serve on: this machine only, or 0.0.0.0 for all networks.",
)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
@click.option("--up", default="y", show_default=True, type=click.Choice(["x", "y", "z"]), help="Up axis.")
@click.option(
    "--finest",
    default="256",
    show_default=True,
    type=click.Choice(["128", "256", "512"]),
    help="Grid resolution (samples per axis) of a shape when it is not being changed.",
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
    """Explore a shape space, a data source or a file in the browser.

    With -e: shows the shapes of an experiment and all shapes between them, and follows a running training. WHAT adds
    shapes: code files (.pth), or the .json that `deepsdf complete` writes.

    Without -e: WHAT is a data source, whose shapes are shown with the quality of their samples, or a file: a mesh, SDF
    samples (.npz), a point cloud or a scan.

    \b
    deepsdf view -e EXP
    deepsdf view -e EXP out/whole.json
    deepsdf view data
    deepsdf view chair.obj

    Needs `pip install "deepsdf[viewer]"`. Stop it with Ctrl-C.
    """
    from deepsdf.viewer.opening import open_page
    from deepsdf.viewer.serve import LOOPBACK, Server

    opened = open_page(what, experiment, checkpoint=checkpoint, up=up, finest=int(finest), device=device)
    try:
        server = Server(opened.make, host=host, port=port, up=up)
        try:
            say(f"{opened.title} is at {server.url}")
            if host not in LOOPBACK:
                say(f"Anyone who can connect to {host} can view shapes and upload files: there is no password.")
            say("Press Ctrl-C to stop.")
            threading.Event().wait()
        except KeyboardInterrupt:
            say(f"Stopped; {count(len(server.pages), 'page')} open.")
            raise SystemExit(INTERRUPTED) from None
        finally:
            server.close()
    finally:
        opened.close()
