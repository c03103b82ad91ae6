"""The state of a training: creation, checkpoints, and snapshots in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepsdf.checkpoints import codes_content, load_codes, load_decoder, model_content, pth_bytes, read_part
from deepsdf.errors import InputError
from deepsdf.journal import write_together
from deepsdf.network.codes import make_codes
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder
from deepsdf.specs import Specs
from deepsdf.training.logs import TrainingLogs
from deepsdf.training.ranks import Ranks
from deepsdf.training.record import TrainingRecord
from deepsdf.workspace import Experiment


@dataclass
class TrainingState:
    """Everything that training changes.

    Attributes:
        adam: two parameter groups, decoder and codes, as in the original.
        muon: updates the hidden matrices of the decoder instead of `adam`, with the optimizer "muon".
        scenes: number of scenes of all ranks; `codes` holds those of this rank.
    """

    decoder: Decoder
    codes: nn.Embedding
    adam: torch.optim.Adam
    muon: torch.optim.Muon | None
    logs: TrainingLogs
    scenes: int
    ranks: Ranks = Ranks()  # noqa: RUF009

    @classmethod
    def create(
        cls,
        specs: Specs,
        scenes: int,
        seed: int,
        device: torch.device,
        ranks: Ranks = Ranks(),  # noqa: B008
    ) -> TrainingState:
        """Fresh weights and codes. They depend on the seed alone, not on the device or the number of ranks.

        Raises:
            InputError: settings that do not describe a network, or optimizer "muon" without hidden matrices.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            decoder = build_decoder(specs.network_arch, specs.code_length, specs.network_specs)
        codes = make_codes(
            scenes,
            specs.code_length,
            init_std=specs.code_init_std_dev,
            bound=specs.code_bound,
            # An independent stream: with the seed of the weights, codes and weights would share random numbers.
            generator=torch.Generator().manual_seed(independent_seeds(1, seed)[0]),
        )
        if ranks.count > 1:
            codes = nn.Embedding.from_pretrained(
                ranks.share(codes.weight.detach()).clone(), freeze=False, max_norm=codes.max_norm
            )
        decoder, codes = decoder.to(device), codes.to(device)
        hidden = decoder.hidden_matrices if specs.optimizer == "muon" else []
        if specs.optimizer == "muon" and not hidden:
            raise InputError('Optimizer "muon" needs hidden layers without weight norm; set weight_norm to false')
        owned = {id(parameter) for parameter in hidden}
        rest = [parameter for parameter in decoder.parameters() if id(parameter) not in owned]
        rates = [schedule.rate(0) for schedule in specs.learning_rate_schedule]
        adam = torch.optim.Adam(
            [{"params": rest, "lr": rates[0]}, {"params": list(codes.parameters()), "lr": rates[1]}],
            fused=True,
        )
        muon = torch.optim.Muon(hidden, lr=rates[2], weight_decay=0.0) if hidden else None
        return cls(decoder, codes, adam, muon, TrainingLogs(), scenes, ranks)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.adam, self.muon] if self.muon else [self.adam]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups in the order of `LearningRateSchedule`."""
        return self.adam.param_groups + (self.muon.param_groups if self.muon else [])

    def zero_codes_but(self, scenes: Tensor) -> None:
        """Zero the codes of all scenes but these. A zero row marks a scene that is not trained."""
        unused = torch.ones(len(self.codes.weight), dtype=torch.bool).index_fill_(0, self.ranks.rows(scenes), False)
        with torch.no_grad():
            self.codes.weight[unused.to(self.codes.weight.device)] = 0.0

    def save(
        self, experiment: Experiment, checkpoints: Sequence[str], record: TrainingRecord, remove: Iterable[str] = ()
    ) -> None:
        """Write checkpoints and the logs needed to continue them: all files or none.

        Args:
            checkpoints: names, epochs or "latest".
            remove: names of existing checkpoints to remove.
        Raises:
            OSError: a file cannot be written; existing checkpoints are unchanged.
        """
        epoch = self.logs.epoch
        codes, optimizers = self.ranks.whole(self.codes.weight.detach(), self.scenes), self._optimizer_content()
        if not self.ranks.first:
            return
        makers: dict[str, Callable[[], bytes]] = {
            "model": lambda: pth_bytes(model_content(self.decoder, epoch)),
            "optimizer": lambda: pth_bytes({"epoch": epoch, **optimizers, "training": record.content()}),
            "codes": lambda: pth_bytes(codes_content(codes, epoch)),
        }
        contents: dict[Path, Callable[[], bytes]] = {}
        for checkpoint in checkpoints:
            contents |= dict(zip(experiment.checkpoint_files(checkpoint), makers.values(), strict=True))
        contents[experiment.logs_path] = lambda: pth_bytes(self.logs.content())
        removed = (path for name in remove if name not in checkpoints for path in experiment.checkpoint_files(name))
        write_together(experiment.root, contents, removed)

    def _optimizer_content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"optimizer_state_dict": _on_cpu(self.adam.state_dict())}
        self._change_code_moments(
            content["optimizer_state_dict"],
            lambda own: self.ranks.whole(own.to(self.codes.weight.device), self.scenes).cpu(),
        )
        for group in content["optimizer_state_dict"]["param_groups"]:
            group["fused"] = None  # a property of this machine, not of the training
        if self.muon:
            content["muon_state_dict"] = _on_cpu(self.muon.state_dict())
        return content

    def _change_code_moments(self, adam: dict[str, Any], change: Callable[[Tensor], Tensor]) -> None:
        """Apply `change` to the moments of the codes, in place: from this rank's rows to all rows, or back."""
        if self.ranks.count > 1:
            moments = adam["state"].get(adam["param_groups"][1]["params"][0], {})
            for name, value in moments.items():
                if name != "step":
                    moments[name] = change(value)

    def restore(self, experiment: Experiment, checkpoint: str) -> TrainingRecord | None:
        """Load a checkpoint and its logs.

        Returns:
            The record of the training that wrote it; None for checkpoints of the original.
        Raises:
            InputError: no such checkpoint; a part is broken, or has another architecture, scenes or epoch.
        """
        decoder, epoch = load_decoder(experiment, checkpoint)
        codes, codes_epoch = load_codes(experiment, checkpoint)
        path = experiment.optimizer_path(checkpoint)
        known = ", ".join(experiment.checkpoints())
        content = read_part(experiment, path, "an optimizer checkpoint", f"existing checkpoints: {known}")
        if not isinstance(content, dict) or not {"epoch", "optimizer_state_dict"} <= content.keys():
            raise InputError(
                f"{path} is not an optimizer checkpoint: expected the keys 'epoch' and 'optimizer_state_dict'"
            )
        epochs = (epoch, codes_epoch, content["epoch"])
        if len(set(epochs)) > 1:
            raise InputError(
                f"the parts of the checkpoint {checkpoint!r} of {experiment.root} have different epochs (model "
                f"{epochs[0]}, codes {epochs[1]}, optimizer {epochs[2]}); continue from another: {known}"
            )
        if len(codes) != self.scenes:
            raise InputError(
                f"{experiment.codes_path(checkpoint)} holds {len(codes)} codes; the training split has "
                f"{self.scenes} shapes. Continue with the split that it was trained on"
            )
        self._restore_optimizers(content, path)
        self.decoder.load_state_dict(decoder.state_dict())
        with torch.no_grad():
            self.codes.weight.copy_(self.ranks.share(codes))
        self.logs = TrainingLogs.load(experiment.logs_path)
        self.logs.clip(epoch)
        return TrainingRecord.read(content["training"], path) if "training" in content else None

    def _restore_optimizers(self, content: dict[str, Any], path: object) -> None:
        adam = content["optimizer_state_dict"]
        try:
            for group in adam["param_groups"]:
                group["fused"] = True
            self._change_code_moments(adam, lambda whole: self.ranks.share(whole).clone())
            _check_moments(self.adam, adam)
            self.adam.load_state_dict(adam)
            if self.muon:
                _check_moments(self.muon, content["muon_state_dict"])
                self.muon.load_state_dict(content["muon_state_dict"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(f"{path} has another optimizer or architecture than specs.json: {error}") from None


class Snapshot:
    """A copy in memory of weights, codes and optimizer moments, to return to. Logs are not included."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._copies: list[Tensor] = []

    def take(self) -> None:
        """Copy the current values, replacing the previous copy."""
        tensors = list(self._tensors())
        if len(tensors) != len(self._copies):  # optimizers create their moments at their first step
            self._copies = [tensor.clone() for tensor in tensors]
        else:
            for copy, tensor in zip(self._copies, tensors, strict=True):
                copy.copy_(tensor)

    def restore(self) -> None:
        """Return to the copy. Moments created since become zero, their value before the first step of an optimizer."""
        tensors = list(self._tensors())
        for tensor, copy in zip(tensors, self._copies, strict=False):
            tensor.copy_(copy)
        for tensor in tensors[len(self._copies) :]:
            tensor.zero_()

    def _tensors(self) -> Iterator[Tensor]:
        state = self._state
        yield from (parameter.detach() for parameter in state.decoder.parameters())
        yield state.codes.weight.detach()
        for optimizer in (state.adam, state.muon):
            for moments in optimizer.state.values() if optimizer else ():
                yield from (value for value in moments.values() if isinstance(value, Tensor))


def _check_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raise ValueError if moments do not fit the parameters: a fused step would read beyond their end."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, value in saved["state"].get(number, {}).items():
            if name != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")


def independent_seeds(count: int, *parts: int) -> list[int]:
    """Seeds of `count` independent random streams, derived from non-negative integers."""
    return [int(seed) >> 1 for seed in np.random.SeedSequence(parts).generate_state(count, np.uint64)]


def _on_cpu(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.detach().cpu().clone()
    if isinstance(content, dict):
        return {key: _on_cpu(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_on_cpu(value) for value in content]
    return content
