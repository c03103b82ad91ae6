"""The command line: the only room that parses, prints and draws progress."""

from __future__ import annotations

from importlib import import_module

import click

from deepsdf._version import __version__

VERBS = {
    "demo": "demo",
    "split": "data",
    "preprocess": "data",
    "view-samples": "data",
    "train": "learn",
    "plot": "learn",
    "reconstruct": "use",
    "mesh": "use",
    "evaluate": "measure",
    "report": "report",
    "interpolate": "explore",
    "sample": "explore",
    "edit": "edit",
    "map": "explore",
    "complete": "complete",
    "render": "show",
    "view": "view",
}
"""Each verb and the module it stands in, in the order a user meets them."""


class _Verbs(click.Group):
    """Loads a verb's module when it is called, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("_", "-")
        if name not in VERBS:
            return None
        module = import_module(f"deepsdf.cli.{VERBS[name]}")
        return getattr(module, name.replace("-", "_"))


@click.group(
    cls=_Verbs,
    # Hyphens and underscores are the same, as the original's users type them.
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.version_option(__version__, prog_name="deepsdf")
def main() -> None:
    """Learn a space of shapes from a folder of meshes, and use it.

    \b
    The whole way, on meshes of your own:
      deepsdf split       -s meshes -o splits
      deepsdf preprocess  -s meshes -d data --split splits/meshes_train.json
      deepsdf preprocess  -s meshes -d data --split splits/meshes_test.json
      deepsdf preprocess  -s meshes -d data --split splits/meshes_test.json --surface
      deepsdf train       -e EXP            (EXP holds a specs.json; examples/ has some)
      deepsdf reconstruct -e EXP -d data -s splits/meshes_test.json
      deepsdf evaluate    -e EXP -d data -s splits/meshes_test.json
      deepsdf report      -e EXP

    `deepsdf demo` does all of it on chairs of its own making.

    Exit status: 0 all done, 1 some shapes failed (they are listed), 2 unusable input, 130 stopped
    by Ctrl-C.
    """
