"""The log of a training, Logs.pth, in the format of the original."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepsdf.checkpoints import read_pth
from deepsdf.errors import InputError
from deepsdf.journal import current


@dataclass
class TrainingLogs:
    """Log of a training. Attributes are the keys of Logs.pth; lists have one entry per epoch, `loss` one per step.

    Attributes:
        epoch: last epoch logged.
        loss: loss.
        learning_rate: learning rate of each parameter group: decoder, codes, and with Muon the hidden matrices.
        timing: duration in seconds.
        latent_magnitude: mean norm of the training codes.
        param_magnitude: norm of each parameter of the decoder, by name.
    """

    epoch: int = 0
    loss: list[float] = field(default_factory=list)
    learning_rate: list[list[float]] = field(default_factory=list)
    timing: list[float] = field(default_factory=list)
    latent_magnitude: list[Any] = field(default_factory=list)
    param_magnitude: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> TrainingLogs:
        """Read Logs.pth. Raises InputError if it is missing or broken."""
        newest = current(path.parent, path)
        content = read_pth(newest if newest.is_file() else path, "a training log", "`deepsdf train` writes it")
        try:
            return cls(**{name: content[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is not a training log: the key {error} is missing") from None

    def content(self) -> dict[str, Any]:
        """Content of Logs.pth."""
        return asdict(self)

    def append(
        self, decoder: nn.Module, magnitude: Tensor, losses: list[float], rates: list[float], seconds: float
    ) -> None:
        """Add a finished epoch.

        Args:
            magnitude: mean norm of the codes.
            losses: loss of each step.
            rates: learning rate of each parameter group.
            seconds: duration of the epoch.
        """
        self.epoch += 1
        self.loss += losses
        self.learning_rate.append(rates)
        self.timing.append(seconds)
        with torch.no_grad():
            self.latent_magnitude.append(magnitude.cpu())
            names, parameters = zip(*decoder.named_parameters(), strict=True)
            norms = torch.stack([parameter.norm() for parameter in parameters]).tolist()
        for name, norm in zip(names, norms, strict=True):
            self.param_magnitude.setdefault(name, []).append(norm)

    def clip(self, epoch: int) -> None:
        """Remove everything after an epoch, to continue from there.

        Raises:
            InputError: the logs end before that epoch.
        """
        if epoch > len(self.learning_rate):
            raise InputError(
                f"Logs.pth ends at epoch {len(self.learning_rate)}, before the checkpoint of epoch {epoch}: it belongs "
                'to another training; continue from "latest"'
            )
        if epoch == len(self.learning_rate):
            return
        steps = len(self.loss) // max(1, len(self.learning_rate))
        self.loss = self.loss[: steps * epoch]
        self.learning_rate, self.timing = self.learning_rate[:epoch], self.timing[:epoch]
        self.latent_magnitude = self.latent_magnitude[:epoch]
        self.param_magnitude = {name: values[:epoch] for name, values in self.param_magnitude.items()}
        self.epoch = epoch


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means of all `window` consecutive values, (n - window + 1,); empty if there are fewer values."""
    if len(values) < window:
        return np.zeros(0)
    sums = np.cumsum(np.insert(np.asarray(values, np.float64), 0, 0.0))
    return (sums[window:] - sums[:-window]) / window
