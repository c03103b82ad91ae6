"""Networks by their name in specs.json, built from its options, and their weights from checkpoints."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.network.decoder import ACTIVATIONS, Decoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """Registration of a network.

    Attributes:
        make: constructor; takes the length of a code, then options by keyword.
        excluded: parameters of the constructor that are not options of this network.
    """

    make: Callable[..., Decoder]
    excluded: frozenset[str] = frozenset()

    @property
    def options(self) -> list[str]:
        """Names of the options: keys of `NetworkSpecs`."""
        _, *names = inspect.signature(self.make).parameters
        return [name for name in names if name not in self.excluded]


NETWORKS: dict[str, Network] = {
    "deep_sdf_decoder": Network(Decoder, excluded=frozenset({"octaves", "activation"})),
    "encoded_decoder": Network(Decoder),
}
"""Values of `NetworkArch` in specs.json: the network of the original, and an extended one."""


def build_decoder(arch: str, code_length: int, options: Mapping[str, Any]) -> Decoder:
    """Build a registered network with fresh weights.

    Args:
        arch: a name in `NETWORKS`, the key `NetworkArch` of specs.json.
        code_length: length of a code, the key `CodeLength`.
        options: keyword arguments of the network, the key `NetworkSpecs`. Unknown options are ignored with a warning
            unless they resemble a known one: descendants of the original add their own.
    Raises:
        InputError: an unknown architecture; a misspelt, missing or ill-typed option.
    """
    if arch not in NETWORKS:
        raise InputError(f"NetworkArch is {arch!r}; expected one of {', '.join(NETWORKS)}")
    known = NETWORKS[arch].options
    used = {}
    for name, value in options.items():
        if name in known:
            used[name] = value
        elif near := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8):
            raise InputError(f"NetworkSpecs: unknown key {name!r}; did you mean {near[0]!r}?")
        else:
            logger.warning("NetworkSpecs: %r is no option of %s and is ignored", name, arch)
    _check_types(used)
    return NETWORKS[arch].make(code_length, **used)


_LISTS = {"dims", "dropout", "norm_layers", "latent_in"}
_FLAGS = {"weight_norm", "xyz_in_all", "use_tanh", "latent_dropout"}


def _check_types(options: Mapping[str, Any]) -> None:
    if not options.get("dims"):
        raise InputError("NetworkSpecs: the key 'dims' is missing; it lists the widths of the hidden layers")
    for name, value in options.items():
        if value is None and name in (_LISTS | _FLAGS) - {"dims"}:
            continue
        if name in _LISTS:
            good = isinstance(value, list | tuple) and all(type(item) is int and item >= 0 for item in value)
            wanted = "a list of non-negative integers"
        elif name in _FLAGS:
            good, wanted = isinstance(value, bool), "true or false"
        elif name == "octaves":
            good, wanted = type(value) is int and 0 <= value <= 16, "an integer from 0 to 16"
        elif name == "dropout_prob":
            good, wanted = isinstance(value, int | float) and 0 <= value < 1, "a number from 0 to below 1"
        else:
            good, wanted = isinstance(value, str), f"one of {', '.join(ACTIVATIONS)}"
        if not good:
            raise InputError(f"NetworkSpecs > {name} is {value!r}; expected {wanted}")


def load_weights(decoder: Decoder, weights: Mapping[str, Tensor], where: str) -> None:
    """Load the parameters of a checkpoint into a decoder.

    Accepts names with and without the prefix `module.` of DataParallel, and both names that torch has used for the
    parameters of weight norm.

    Args:
        where: name of the checkpoint in errors.
    Raises:
        InputError: the checkpoint has another architecture; the message lists differing parameters.
    """
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("module.")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[name.replace("parametrizations.weight.original1", "weight_v")] = value
    expected = decoder.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in renamed]
    faults += [f"{name} is not in this network" for name in renamed if name not in expected]
    faults += [
        f"{name} has shape {tuple(renamed[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in renamed and renamed[name].shape != value.shape
    ]
    if faults:
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise InputError(f"{where} has another architecture than specs.json: {shown}")
    decoder.load_state_dict(renamed)
