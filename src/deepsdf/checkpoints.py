"""The .pth files of an experiment: reads the formats of the original and its descendants, writes that of the original.

Files are read with `weights_only=True`, so that a file from elsewhere cannot execute code.
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
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder, load_weights
from deepsdf.workspace import Experiment


def read_pth(path: str | os.PathLike[str], what: str, again: str) -> Any:
    """Content of a .pth file, on the CPU.

    Args:
        what: the expected content with its article ("a code"), for errors.
        again: what to do about a missing or broken file, for errors.
    Raises:
        InputError: the file is missing, truncated, or holds anything but tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no {what.partition(' ')[2]} at {path}; {again}") from None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # torch raises many types for damaged files
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if "weights_only" in reason:  # the message of torch advises to trust the file
            reason = "it holds other objects than tensors and plain values"
        raise InputError(f"{path} is not {what}: it is truncated or has another format ({reason}); {again}") from None


def read_part(experiment: Experiment, path: Path, what: str, again: str) -> Any:
    """Like `read_pth`, for a file of a checkpoint, including one that an interrupted training left in its journal."""
    newest = current(experiment.root, path)
    return read_pth(newest if newest.is_file() else path, what, again)


def pth_bytes(content: Any) -> bytes:
    """Bytes of a .pth file. Serialised in memory, since torch reports a full disk as an unrelated error."""
    with io.BytesIO() as stream:
        torch.save(content, stream)
        return stream.getvalue()


def write_pth(contents: Mapping[Path, Any]) -> None:
    """Write several .pth files. All are complete before the first is renamed to its final name."""
    with ExitStack() as stack:
        for path, content in contents.items():
            torch.save(content, stack.enter_context(atomic_path(path)))


def resolve_epoch(experiment: Experiment, checkpoint: str | int) -> int:
    """Epoch of a checkpoint, read from its file.

    Raises:
        InputError: there is no such checkpoint; the message lists existing ones.
    """
    return _read_checkpoint(experiment, checkpoint)["epoch"]


def _read_checkpoint(experiment: Experiment, checkpoint: str | int) -> dict[str, Any]:
    path = experiment.model_path(checkpoint)
    known = experiment.checkpoints()
    if str(checkpoint) not in known:
        existing = (
            f"existing checkpoints: {', '.join(known)}"
            if known
            else f"there are none; `deepsdf train -e {experiment.root}` writes them"
        )
        raise InputError(f"{experiment.root} has no checkpoint {str(checkpoint)!r}; {existing}")
    content = read_part(experiment, path, "a model checkpoint", f"other checkpoints: {', '.join(known)}")
    weights = content.get("model_state_dict") if isinstance(content, dict) else None
    if (
        not isinstance(weights, dict)
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
        or not isinstance(content.get("epoch"), int)
    ):
        raise InputError(f"{path} is not a model checkpoint: expected keys 'epoch' and 'model_state_dict'")
    return content


def load_decoder(experiment: Experiment, checkpoint: str | int = "latest") -> tuple[Decoder, int]:
    """Decoder of a checkpoint, in evaluation mode, and its epoch.

    Raises:
        InputError: the checkpoint is missing, broken, or has another architecture.
    """
    specs = experiment.specs
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # building draws weights
        decoder = build_decoder(specs.network_arch, specs.code_length, specs.network_specs)
    content = _read_checkpoint(experiment, checkpoint)
    load_weights(decoder, content["model_state_dict"], str(experiment.model_path(checkpoint)))
    return decoder.eval(), content["epoch"]


def model_content(decoder: Decoder, epoch: int) -> dict[str, Any]:
    """Content of a model checkpoint. Names have the prefix of DataParallel, as in the original."""
    weights = {f"module.{name}": value.detach().cpu() for name, value in decoder.state_dict().items()}
    return {"epoch": epoch, "model_state_dict": weights}


def load_codes(experiment: Experiment, checkpoint: str | int = "latest") -> tuple[Tensor, int]:
    """Training codes (scenes, L) of a checkpoint, and its epoch.

    Raises:
        InputError: the file is missing or broken, or the length of the codes differs from specs.json.
    """
    path = experiment.codes_path(checkpoint)
    known = ", ".join(experiment.checkpoints()) or "none"
    content = read_part(experiment, path, "a file of training codes", f"existing checkpoints: {known}")
    try:
        codes, epoch = content["latent_codes"], content["epoch"]
        codes = (codes if isinstance(codes, Tensor) else codes["weight"]).float().flatten(1)
    except (KeyError, TypeError, AttributeError, IndexError):
        raise InputError(f"{path} is not a file of training codes: expected keys 'epoch' and 'latent_codes'") from None
    length = experiment.specs.code_length
    if codes.shape[1] != length:
        raise InputError(f"{path} holds codes of length {codes.shape[1]}; CodeLength in specs.json is {length}")
    return codes, epoch


def codes_content(codes: Tensor, epoch: int) -> dict[str, Any]:
    """Content of a file of training codes (scenes, L)."""
    return {"epoch": epoch, "latent_codes": {"weight": codes.detach().cpu().clone()}}


def load_code(path: str | os.PathLike[str], length: int | None = None) -> Tensor:
    """Code (L,) of one shape from a file in the format of the original, a tensor (1, 1, L).

    Raises:
        InputError: the file is missing or holds no code of the given length.
    """
    code = read_pth(path, "a code", "create it again with `deepsdf reconstruct`")
    if not isinstance(code, Tensor) or (length is not None and code.numel() != length):
        held = f"a tensor of shape {tuple(code.shape)}" if isinstance(code, Tensor) else type(code).__name__
        raise InputError(f"{path} holds {held}; expected a code of length {length or 'L'} with shape (1, 1, L)")
    return code.detach().float().reshape(-1)


def code_content(code: Tensor) -> Tensor:
    """Content of a file with one code (L,): a tensor (1, 1, L), as in the original."""
    return code.detach().cpu().float().reshape(1, 1, -1).clone()


def save_code(path: Path, code: Tensor) -> None:
    """Write one code (L,) in the format of the original."""
    write_pth({path: code_content(code)})
