"""Settings that are known to work, as plain typed values."""

from __future__ import annotations

from collections.abc import Callable

from deepsdf.specs import CosineSchedule, CurriculumStage, Specs, StepSchedule


def fast(
    *,
    data_source: str,
    train_split: str,
    test_split: str | None = None,
    scenes: int,
    epochs: int | None = None,
    seed: int = 0,
) -> Specs:
    """Small steps of a small network with a positional encoding, the hidden matrices under Muon, in bfloat16.

    A step of 64 scenes takes less than 0.1 s on 2 CPU cores; a few thousand steps learn a class of shapes.
    `benchmarks/recipes.py` compares it with its neighbours.

    Args:
        scenes: how many training shapes; up to 64 of them make a batch.
        epochs: passes over the shapes; the learning rates fall to 0 after the last. By default as many as make
            10 000 steps, but 100 at least.
        seed: of the training.
    """
    batch = min(64, scenes)
    epochs = epochs or max(100, 10_000 // (scenes // batch))

    def cosine(initial: float) -> CosineSchedule:
        return CosineSchedule(initial=initial, warmup=min(50, epochs // 10), length=epochs + 1)

    return Specs(
        description="Made by the preset `fast`: 8 x 256, codes of 128 numbers, 2 octaves, Muon.",
        data_source=data_source,
        train_split=train_split,
        test_split=test_split,
        network_arch="encoded_decoder",
        network_specs={"dims": [256] * 8, "latent_in": [4], "octaves": 2},
        code_length=128,
        num_epochs=epochs,
        snapshot_frequency=epochs,
        log_frequency=min(100, epochs),
        samples_per_scene=64,
        scenes_per_batch=batch,
        clamping_distance=0.1,
        learning_rate_schedule=[cosine(1e-3), cosine(2e-3), cosine(1e-2)],
        optimizer="muon",
        precision="bfloat16",
        seed=seed,
    )


def deepsdf(
    *,
    data_source: str,
    train_split: str,
    test_split: str | None = None,
    scenes: int,
    epochs: int | None = None,
    seed: int = 0,
) -> Specs:
    """The published experiments' settings (sofas' specs.json). Made for days of eight GPUs."""
    layers = list(range(8))
    return Specs(
        description="The settings of the original's published experiments.",
        data_source=data_source,
        train_split=train_split,
        test_split=test_split,
        network_arch="deep_sdf_decoder",
        network_specs={
            "dims": [512] * 8,
            "dropout": layers,
            "dropout_prob": 0.2,
            "norm_layers": layers,
            "latent_in": [4],
            "xyz_in_all": False,
            "use_tanh": False,
            "latent_dropout": False,
            "weight_norm": True,
        },
        code_length=256,
        num_epochs=epochs or 2001,
        snapshot_frequency=1000,
        additional_snapshots=[100, 500],
        samples_per_scene=16384,
        scenes_per_batch=min(64, scenes),
        clamping_distance=0.1,
        code_bound=1.0,
        learning_rate_schedule=[
            StepSchedule(initial=5e-4, interval=500, factor=0.5),
            StepSchedule(initial=1e-3, interval=500, factor=0.5),
        ],
        seed=seed,
    )


def quality(
    *,
    data_source: str,
    train_split: str,
    test_split: str | None = None,
    scenes: int,
    epochs: int | None = None,
    seed: int = 0,
) -> Specs:
    """`fast` with codes of 256 numbers and three times the steps.

    The layer that the code enters again is as much wider, so that it keeps 256 hidden numbers beside the code's 256 and
    the point's 15. A step costs what one of `fast` does, a fit of an unseen shape several times as much. With
    variants to learn from, unseen shapes came out at half the error of `fast` (docs/training.md).
    """
    specs = fast(
        data_source=data_source,
        train_split=train_split,
        test_split=test_split,
        scenes=scenes,
        epochs=epochs or 3 * fast(data_source="", train_split="", scenes=scenes).num_epochs,
        seed=seed,
    )
    return specs.model_copy(
        update={
            "description": "Made by the preset `quality`: 8 x 256, codes of 256 numbers beside them, 2 octaves, Muon.",
            "network_specs": specs.network_specs | {"dims": [256] * 3 + [527] + [256] * 4},
            "code_length": 256,
        }
    )


def curriculum(
    *,
    data_source: str,
    train_split: str,
    test_split: str | None = None,
    scenes: int,
    epochs: int | None = None,
    seed: int = 0,
) -> Specs:
    """`deepsdf` with the schedule of Curriculum DeepSDF (Duan et al., ECCV 2020), at `deepsdf`'s cost.

    Errors up to a tolerance count nothing, and hard samples more, in four stages. That paper's growing network is not
    in it.
    """
    specs = deepsdf(
        data_source=data_source,
        train_split=train_split,
        test_split=test_split,
        scenes=scenes,
        epochs=epochs,
        seed=seed,
    )
    stages = ((0, 0.025, 0.0), (200, 0.01, 0.1), (600, 0.0025, 0.2), (1000, 0.0, 0.5))
    return specs.model_copy(
        update={
            "description": "The original's settings with Curriculum DeepSDF's tolerances and weights of hard samples.",
            "curriculum": [
                CurriculumStage(from_epoch=epoch, tolerance=tolerance, hard_weight=weight)
                for epoch, tolerance, weight in stages
            ],
        }
    )


PRESETS: dict[str, Callable[..., Specs]] = {
    "fast": fast,
    "quality": quality,
    "deepsdf": deepsdf,
    "curriculum": curriculum,
}
