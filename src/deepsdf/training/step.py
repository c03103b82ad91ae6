"""One step of a training: draw samples, predict, go back, let the optimizers move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deepsdf.network.objective import LOSSES, code_penalty, ease, eikonal
from deepsdf.samples.bank import mix
from deepsdf.samples.packed import ReadAhead
from deepsdf.specs import Specs
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.ranks import Ranks
from deepsdf.training.samples import SplitSamples

PART_ROWS = {"cpu": 1 << 14, "cuda": 1 << 20}
"""Samples that go through the network at once. More would fall out of the cache, and of the sizes that are allocated
without the system; the gradients of all parts of a batch are added."""

EIKONAL_STRIDE = 4
"""One sample in so many has its gradient looked at: that costs three times what the rest of its work does."""


class Stepper:
    """Does a training's steps, one after the other. Nothing in it waits for a device."""

    def __init__(
        self,
        state: TrainingState,
        specs: Specs,
        samples: SplitSamples,
        *,
        batch_size: int,
        batch_split: int,
        ranks: Ranks,
        compiled: bool = False,
    ) -> None:
        """`batch_size` is that of all ranks together; `batch_split` the least number of parts to work in."""
        self._state, self._specs, self._samples, self._ranks = state, specs, samples, ranks
        self._device = state.codes.weight.device
        per_scene = 2 * (specs.samples_per_scene // 2)
        self._count = batch_size * per_scene
        self._batch_size = batch_size
        # Each part takes a slice of every scene's samples, and some of the scenes.
        rows = PART_ROWS[self._device.type]
        self._slices = max(batch_split, -(-per_scene // rows))
        self._scenes = max(1, rows // -(-per_scene // self._slices))
        self._decoder: Any = state.decoder
        if compiled:
            self._decoder = torch.compile(state.decoder, fullgraph=True, dynamic=False)
        self._ahead = ReadAhead(samples.bank) if samples.mapped else None
        self._loss = LOSSES[specs.loss].value
        self.negative = torch.zeros((), dtype=torch.int64, device=self._device)
        """How many of the epoch's predictions are inside."""

    def begin(self, epoch: int, rates: Sequence[float], key: int, batches: Sequence[Tensor] = ()) -> None:
        """An epoch begins; its draws follow from `key`, and its batches are known for reading ahead."""
        specs, state = self._specs, self._state
        for group, rate in zip(state.groups, rates, strict=True):
            group["lr"] = rate
        state.decoder.train()
        self._key, self._batches = key, batches
        if self._ahead:
            self._ahead.forget()
        self._stage = specs.curriculum_stage(epoch)
        self._penalty = specs.code_regularization_lambda * min(1.0, epoch / 100) if specs.code_regularization else 0.0
        self.negative.zero_()

    def __call__(self, step: int, batch: Tensor) -> Tensor:
        """Step number `step` of the epoch, on shapes of the bank (b,); returns this rank's share of the loss."""
        state, specs = self._state, self._specs
        scenes = self._samples.scenes[batch]
        samples = self._draw(step, batch, scenes)
        scenes = self._ranks.rows(scenes.to(self._device))
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        table = self._look_up(scenes)
        codes = table.detach().requires_grad_()  # so that the table's gradient is made once, not once a part
        loss = torch.zeros((), device=self._device)
        for own, part in self._parts(samples):
            part_loss = self._part_loss(codes[own], part)
            part_loss.backward()
            loss += part_loss.detach()
        if self._penalty:
            penalty = code_penalty(codes, self._penalty, specs.code_penalty).sum() / self._batch_size
            penalty.backward()
            loss += penalty.detach()
        table.backward(codes.grad)
        self._ranks.add_gradients(state.decoder.parameters())
        if specs.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.decoder.parameters(), specs.gradient_clip_norm)
        for optimizer in state.optimizers:
            optimizer.step()
        return loss

    def _draw(self, step: int, batch: Tensor, scenes: Tensor) -> Tensor:
        """Samples (b, n, 4): of a scene the same in whatever batch, on whatever device."""
        count, drawn = self._specs.samples_per_scene, None
        if self._ahead:
            drawn = self._ahead.take(step)
            if step < len(self._batches):
                coming = self._batches[step]
                self._ahead.begin(step + 1, coming, count, self._keys(step + 1, self._samples.scenes[coming]))
        if drawn is None:
            drawn = self._samples.bank.draw_keyed(batch, count, self._keys(step, scenes))
        if drawn.device != self._device:
            drawn = drawn.pin_memory().to(self._device, non_blocking=True)
        return drawn

    def _keys(self, step: int, scenes: Tensor) -> Tensor:
        key = mix(torch.tensor((self._key + step) % 2**63)).item()  # on the CPU: waits for nothing
        return mix(scenes + key)

    def _look_up(self, scenes: Tensor) -> Tensor:
        """Codes (b, L), those beyond their bound scaled back to it. torch's own way of that waits for the device."""
        table = self._state.codes
        if table.max_norm is not None:
            with torch.no_grad():
                rows = table.weight[scenes]
                scale = table.max_norm / (rows.norm(dim=1, keepdim=True) + 1e-7)
                table.weight.index_copy_(0, scenes, torch.where(scale < 1, rows * scale, rows))
        return functional.embedding(scenes, table.weight)

    def _parts(self, samples: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(samples), self._scenes):
            own = slice(start, start + self._scenes)
            for part in samples[own].chunk(self._slices, dim=1):
                yield own, part

    def _part_loss(self, codes: Tensor, part: Tensor) -> Tensor:
        specs, delta, target = self._specs, self._specs.clamping_distance, part[..., 3]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=specs.precision == "bfloat16"):
            predicted = self._decoder(codes, part[..., :3])
        errors = self._loss(predicted, target, delta)
        loss = ease(errors, predicted, target, self._stage.tolerance, self._stage.hard_weight).sum() / self._count
        if specs.eikonal_weight:
            some = part[:, ::EIKONAL_STRIDE]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=specs.precision == "bfloat16"):
                steepness = eikonal(self._state.decoder, codes, some[..., :3])
            near = steepness * (some[..., 3].abs() < delta)
            loss = loss + specs.eikonal_weight * EIKONAL_STRIDE * near.sum() / self._count
        self.negative += (predicted.detach() < 0).sum()
        return loss
