"""Networks by their name in specs.json, built from its options, and their weights from checkpoints."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_type_hints

from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.network.decoder import Decoder

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
    _check_types(NETWORKS[arch].make, used)
    decoder = NETWORKS[arch].make(code_length, **used)
    decoder.network_arch = arch
    return decoder


def _check_types(make: Callable[..., Decoder], options: Mapping[str, Any]) -> None:
    """Check options against the annotations of the constructor. Ranges are checked by the constructor itself."""
    _, *parameters = inspect.signature(make).parameters.values()
    hints = get_type_hints(make.__init__ if inspect.isclass(make) else make)
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty
        if required and not options.get(parameter.name):
            raise InputError(f"NetworkSpecs: the key {parameter.name!r} is missing")
        if parameter.name not in options:
            continue
        value, hint = options[parameter.name], hints[parameter.name]
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if value is None and (type(None) in kinds or bool in kinds):  # files of the original hold null for false
            continue
        if not any(_fits(value, kind) for kind in kinds):
            wanted = next(text for kind, text in _EXPECTED.items() if any(kind in str(found) for found in kinds))
            raise InputError(f"NetworkSpecs > {parameter.name} is {value!r}; expected {wanted}")


_EXPECTED = {
    "Sequence[int]": "a list of non-negative integers",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "str": "a text",
}
"""How the types of options are named in errors, by the text of the annotation."""


def _fits(value: Any, kind: Any) -> bool:
    if kind == Sequence[int]:
        return isinstance(value, list | tuple) and all(type(item) is int and item >= 0 for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


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
