"""Presets: complete settings known to work. `PRESETS` registers them; the first docstring line is the help text."""

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
    """Learns a class of shapes in minutes: a small network with positional encoding, trained with Muon in bfloat16.

    A step of 64 scenes takes less than 0.1 s on 2 CPU cores; a few thousand steps learn a class of shapes.
    `benchmarks/recipes.py` compares it with variations.

    Args:
        scenes: number of training shapes; a batch has up to 64.
        epochs: passes over the training shapes; learning rates reach 0 after the last. By default the number that makes
            10 000 steps, but at least 100.
        seed: seed of the training.
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
    """The original's published settings (specs.json of the sofas), which train for days on eight GPUs."""
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
    """`fast` with codes of length 256 and three times the steps.

    The input of the layer that code and point enter again is 527 = 256 + 256 + 15 wide: 256 hidden units beside the
    code and the point features (15 with 2 octaves). A step costs the same as one of `fast`, a fit of an unseen shape
    several times more. Trained with variants, its error on unseen shapes is half that of `fast` (docs/training.md).
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
    """`deepsdf` with the loss schedule of Curriculum DeepSDF (Duan et al., ECCV 2020); takes as long as `deepsdf`.

    Four stages lower the error tolerance and raise the weight of hard samples. The paper also grows the network; this
    preset does not.
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
