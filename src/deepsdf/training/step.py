"""One training step: draw samples, predict, backpropagate, update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from deepsdf.devices import fast_bfloat16
from deepsdf.network.objective import LOSSES, code_penalty, ease, eikonal
from deepsdf.samples.bank import mix
from deepsdf.samples.packed import ReadAhead
from deepsdf.specs import Specs
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.ranks import Ranks
from deepsdf.training.samples import SplitSamples

PART_ROWS = {"cpu": 1 << 14, "cuda": 1 << 20}
"""Default number of samples evaluated at once, by device type. On a CPU larger parts leave the cache and the sizes that
the allocator reuses; on a GPU smaller ones leave cores idle."""

EIKONAL_STRIDE = 4
"""The eikonal term uses every 4th sample: the gradient of a sample costs three times the rest of its step."""

REGULARIZATION_EPOCHS = 100
"""Epochs over which the weight of the code penalty increases linearly from 0, as in the original."""


@dataclass(frozen=True)
class EpochPlan:
    """What the steps of an epoch have in common. It determines the samples of every step.

    Attributes:
        epoch: number of the epoch, from 1.
        rates: learning rate of each parameter group.
        key: seed of the draws of samples.
        batches: for each step the shapes, as indices (b,) into the sample bank.
    """

    epoch: int
    rates: list[float]
    key: int
    batches: list[Tensor]


class StepResult(NamedTuple):
    """Scalars on the device of the training; reading them waits for the device.

    Attributes:
        loss: contribution of this rank to the loss of the batch.
        negative: number of negative predictions of this rank.
    """

    loss: Tensor
    negative: Tensor


class Stepper:
    """Performs training steps on the decoder, the codes and the optimizers of a `TrainingState`.

    A step depends on that state and its arguments alone. It never waits for the device.

    Args:
        batch_size: shapes in a batch, of all ranks together.
        batch_split: minimum number of parts in which a batch is processed.
        compiled: whether to run the decoder through torch.compile.
        part_rows: samples evaluated at once; by default `PART_ROWS` of the device.
    """

    def __init__(
        self,
        state: TrainingState,
        specs: Specs,
        samples: SplitSamples,
        *,
        batch_size: int,
        batch_split: int = 1,
        ranks: Ranks = Ranks(),  # noqa: B008
        compiled: bool = False,
        part_rows: int | None = None,
    ) -> None:
        self._state, self._specs, self._samples, self._ranks = state, specs, samples, ranks
        self._device = state.codes.weight.device
        per_scene = 2 * (specs.samples_per_scene // 2)
        self._count = batch_size * per_scene
        self._batch_size = batch_size
        # A part has the samples of `_scenes` scenes, and of these one of `_slices` slices:
        #
        #                samples of a scene
        #            +----------+----------+
        #   scenes   |  part 1  |  part 2  |   _scenes rows
        #            +----------+----------+
        #            |  part 3  |  part 4  |
        #            +----------+----------+
        rows = part_rows or PART_ROWS[self._device.type]
        self._slices = max(batch_split, -(-per_scene // rows))
        self._scenes = max(1, rows // -(-per_scene // self._slices))
        self._decoder: Any = state.decoder
        if compiled:
            self._decoder = torch.compile(state.decoder, fullgraph=True, dynamic=False)
        self._ahead = ReadAhead(samples.bank) if samples.mapped else None
        self._loss = LOSSES[specs.loss].value
        self._bfloat16 = specs.precision == "bfloat16" and fast_bfloat16(self._device)

    def step(self, plan: EpochPlan, index: int) -> StepResult:
        """Perform step `index` (from 0) of an epoch."""
        state, specs, batch = self._state, self._specs, plan.batches[index]
        for group, rate in zip(state.groups, plan.rates, strict=True):
            group["lr"] = rate
        state.decoder.train()
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        samples = self._draw(plan, index)
        rows = self._ranks.rows(self._samples.scenes[batch].to(self._device))
        table = self._look_up(rows)
        codes = table.detach().requires_grad_()  # a leaf: the gradient of the table is computed once, not once per part
        loss = torch.zeros((), device=self._device)
        negative = torch.zeros((), dtype=torch.int64, device=self._device)
        for scenes, part in self._parts(samples):
            part_loss, predicted = self._part_loss(plan.epoch, codes[scenes], part)
            part_loss.backward()
            loss += part_loss.detach()
            negative += (predicted < 0).sum()
        if weight := self._penalty_weight(plan.epoch):
            penalty = code_penalty(codes, weight, specs.code_penalty).sum() / self._batch_size
            penalty.backward()
            loss += penalty.detach()
        table.backward(codes.grad)
        self._ranks.add_gradients(state.decoder.parameters())
        if specs.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.decoder.parameters(), specs.gradient_clip_norm)
        for optimizer in state.optimizers:
            optimizer.step()
        return StepResult(loss, negative)

    def _penalty_weight(self, epoch: int) -> float:
        if not self._specs.code_regularization:
            return 0.0
        return self._specs.code_regularization_lambda * min(1.0, epoch / REGULARIZATION_EPOCHS)

    def _draw(self, plan: EpochPlan, index: int) -> Tensor:
        """Samples (b, n, 4). Those of a scene depend on the plan, the step and the scene alone, on every device."""
        count, drawn = self._specs.samples_per_scene, None
        if self._ahead:
            drawn = self._ahead.take((plan.key, index))
            if index + 1 < len(plan.batches):
                self._ahead.begin((plan.key, index + 1), plan.batches[index + 1], count, self._keys(plan, index + 1))
        if drawn is None:
            drawn = self._samples.bank.draw_keyed(plan.batches[index], count, self._keys(plan, index))
        if drawn.device != self._device:
            drawn = drawn.pin_memory().to(self._device, non_blocking=True)
        return drawn

    def _keys(self, plan: EpochPlan, index: int) -> Tensor:
        """Keys (b,) for `SampleBank.draw_keyed`, one per scene."""
        key = mix(torch.tensor((plan.key + index + 1) % 2**63)).item()  # a tensor on the CPU: no wait for the device
        return mix(self._samples.scenes[plan.batches[index]] + key)

    def _look_up(self, rows: Tensor) -> Tensor:
        """Codes (b, L) of rows of the table, scaled back to the bound first.

        `nn.Embedding` does the same, but waits for the device.
        """
        table = self._state.codes
        if table.max_norm is not None:
            with torch.no_grad():
                codes = table.weight[rows]
                scale = table.max_norm / (codes.norm(dim=1, keepdim=True) + 1e-7)
                table.weight.index_copy_(0, rows, torch.where(scale < 1, codes * scale, codes))
        return functional.embedding(rows, table.weight)

    def _parts(self, samples: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Scenes of the batch and samples of each part."""
        for start in range(0, len(samples), self._scenes):
            scenes = slice(start, start + self._scenes)
            for part in samples[scenes].chunk(self._slices, dim=1):
                yield scenes, part

    def _part_loss(self, epoch: int, codes: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """Contribution of a part to the loss of the batch, and its predictions, detached."""
        specs, delta, target = self._specs, self._specs.clamping_distance, part[..., 3]
        stage = specs.curriculum_stage(epoch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            predicted = self._decoder(codes, part[..., :3])
        errors = self._loss(predicted, target, delta)
        loss = ease(errors, predicted, target, stage.tolerance, stage.hard_weight).sum() / self._count
        if specs.eikonal_weight:
            some = part[:, ::EIKONAL_STRIDE]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                deviation = eikonal(self._state.decoder, codes, some[..., :3])
            near = deviation * (some[..., 3].abs() < delta)
            loss = loss + specs.eikonal_weight * EIKONAL_STRIDE * near.sum() / self._count
        return loss, predicted.detach()
