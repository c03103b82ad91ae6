"""The command line: parses arguments, prints results and draws progress. The library does none of these."""

from __future__ import annotations

from importlib import import_module

import click

from deepsdf._version import __version__

VERBS = {
    "demo": "demo",
    "split": "preprocess",
    "preprocess": "preprocess",
    "view-samples": "preprocess",
    "train": "train",
    "plot": "train",
    "reconstruct": "reconstruct",
    "mesh": "reconstruct",
    "evaluate": "evaluate",
    "report": "report",
    "interpolate": "latent_space",
    "sample": "latent_space",
    "edit": "edit",
    "map": "latent_space",
    "complete": "complete",
    "render": "render",
    "view": "view",
}
"""The only list of verbs: name and module in `deepsdf.cli`, in the order of `deepsdf --help`. The module has a click
command of the verb's name, with underscores for hyphens."""


class _Verbs(click.Group):
    """Imports the module of a verb when it is needed."""

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
    # Underscores are accepted for hyphens, because the original's flags have underscores.
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.version_option(__version__, prog_name="deepsdf")
def main() -> None:
    """Learn a shape space from a folder of meshes, and use it.

    \b
    From your meshes to reconstructions:
      deepsdf split       -s meshes -o splits
      deepsdf preprocess  -s meshes -d data --split splits/meshes_train.json
      deepsdf preprocess  -s meshes -d data --split splits/meshes_test.json
      deepsdf preprocess  -s meshes -d data --split splits/meshes_test.json --surface
      deepsdf train       -e EXP -d data -s splits/meshes_train.json
      deepsdf reconstruct -e EXP -d data -s splits/meshes_test.json
      deepsdf evaluate    -e EXP -d data -s splits/meshes_test.json
      deepsdf report      -e EXP

    `deepsdf demo` runs these steps on generated chairs.

    Exit status: 0 success, 1 some shapes failed (they are listed), 2 invalid input, 130 interrupted
    by Ctrl-C.
    """
