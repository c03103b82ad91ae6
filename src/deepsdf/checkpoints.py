"""The .pth files of an experiment: reading whatever the original and its descendants wrote, writing the same.

All are read with `weights_only=True`: a file from elsewhere can hold tensors, never code.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.files import atomic_path
from deepsdf.journal import current
from deepsdf.network.decoder import Decoder, build_decoder, load_weights
from deepsdf.workspace import Experiment


def read_pth(path: str | os.PathLike[str], what: str, again: str) -> Any:
    """A .pth file's content, on the CPU.

    Args:
        what: what was expected, as "a code", and `again`: how to make it again; both for the error.
    Raises:
        InputError: no such file, or it is truncated, or holds something else than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no {what.partition(' ')[2]} at {path}; {again}") from None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged file makes the reader meet anything
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if "weights_only" in reason:  # torch's own advice is to trust the file
            reason = "no tensors and plain values"
        raise InputError(f"{path} is not {what}: it is truncated or not of this form ({reason}); {again}") from None


def read_part(experiment: Experiment, path: Path, what: str, again: str) -> Any:
    """`read_pth` of a file of an experiment's checkpoints, wherever a training that was stopped left it."""
    place = current(experiment.root, path)
    return read_pth(place if place.is_file() else path, what, again)


def pth_bytes(content: Any) -> bytes:
    """A .pth file's bytes. Made in memory: torch's own writing hides a full disk behind errors of another kind."""
    with io.BytesIO() as stream:
        torch.save(content, stream)
        return stream.getvalue()


def write_pth(contents: Mapping[Path, Any]) -> None:
    """Write .pth files that belong together: all are complete before the first takes its name."""
    with ExitStack() as stack:
        for path, content in contents.items():
            torch.save(content, stack.enter_context(atomic_path(path)))


def resolve_epoch(experiment: Experiment, checkpoint: str | int) -> int:
    """The epoch of a checkpoint: "latest" is looked up in its file.

    Raises:
        InputError: there is no such checkpoint; those that there are, are listed.
    """
    return _read_checkpoint(experiment, checkpoint)["epoch"]


def _read_checkpoint(experiment: Experiment, checkpoint: str | int) -> dict[str, Any]:
    path = experiment.model_path(checkpoint)
    known = experiment.checkpoints()
    if str(checkpoint) not in known:
        there = (
            f"there are {', '.join(known)}"
            if known
            else f"there are none; `deepsdf train -e {experiment.root}` makes them"
        )
        raise InputError(f"{experiment.root} has no checkpoint {str(checkpoint)!r}; {there}")
    content = read_part(experiment, path, "a model checkpoint", f"other checkpoints: {', '.join(known)}")
    weights = content.get("model_state_dict") if isinstance(content, dict) else None
    if (
        not isinstance(weights, dict)
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
        or not isinstance(content.get("epoch"), int)
    ):
        raise InputError(f"{path} is no model checkpoint: it lacks 'epoch' and 'model_state_dict'")
    return content


def load_decoder(experiment: Experiment, checkpoint: str | int = "latest") -> tuple[Decoder, int]:
    """The decoder of a checkpoint, ready to evaluate, and the checkpoint's epoch.

    Raises:
        InputError: no such checkpoint, a broken one, or one of another architecture.
    """
    specs = experiment.specs
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # weights to be replaced are drawn
        decoder = build_decoder(specs.network_arch, specs.code_length, specs.network_specs)
    content = _read_checkpoint(experiment, checkpoint)
    load_weights(decoder, content["model_state_dict"], str(experiment.model_path(checkpoint)))
    return decoder.eval(), content["epoch"]


def model_content(decoder: Decoder, epoch: int) -> dict[str, Any]:
    """What a model checkpoint holds, with the original's names, which DataParallel prefixed."""
    weights = {f"module.{name}": value.detach().cpu() for name, value in decoder.state_dict().items()}
    return {"epoch": epoch, "model_state_dict": weights}


def load_codes(experiment: Experiment, checkpoint: str | int = "latest") -> tuple[Tensor, int]:
    """The training codes (scenes, L) of a checkpoint, and its epoch.

    Raises:
        InputError: no such file, a broken one, or codes of another length than specs.json says.
    """
    path = experiment.codes_path(checkpoint)
    known = ", ".join(experiment.checkpoints()) or "none"
    content = read_part(experiment, path, "a file of training codes", f"checkpoints that are there: {known}")
    try:
        codes, epoch = content["latent_codes"], content["epoch"]
        codes = (codes if isinstance(codes, Tensor) else codes["weight"]).float().flatten(1)
    except (KeyError, TypeError, AttributeError, IndexError):
        raise InputError(f"{path} is no file of training codes: it lacks 'epoch' and 'latent_codes'") from None
    length = experiment.specs.code_length
    if codes.shape[1] != length:
        raise InputError(f"{path} holds codes of length {codes.shape[1]}; CodeLength in specs.json is {length}")
    return codes, epoch


def codes_content(codes: Tensor, epoch: int) -> dict[str, Any]:
    """What a file of training codes (scenes, L) holds."""
    return {"epoch": epoch, "latent_codes": {"weight": codes.detach().cpu().clone()}}


def load_code(path: str | os.PathLike[str], length: int | None = None) -> Tensor:
    """One shape's code (L,) from a file of the original's form (1, 1, L).

    Raises:
        InputError: no such file, no code, or of another length than asked for.
    """
    code = read_pth(path, "a code", "make it again with `deepsdf reconstruct`")
    if not isinstance(code, Tensor) or (length is not None and code.numel() != length):
        held = f"a tensor of shape {tuple(code.shape)}" if isinstance(code, Tensor) else type(code).__name__
        raise InputError(f"{path} holds {held}; a code of length {length or 'L'}, shape (1, 1, L), was expected")
    return code.detach().float().reshape(-1)


def code_content(code: Tensor) -> Tensor:
    """What a file of one code (L,) holds: a tensor (1, 1, L), the original's form."""
    return code.detach().cpu().float().reshape(1, 1, -1).clone()


def save_code(path: Path, code: Tensor) -> None:
    """Write one code (L,) in the original's form."""
    write_pth({path: code_content(code)})
