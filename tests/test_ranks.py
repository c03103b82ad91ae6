"""Several processes train as one: the same losses from the same batches, and files that do not tell how many."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Toys, assert_same

from deepsdf.errors import InputError
from deepsdf.training.checkpoint import independent_seeds
from deepsdf.training.preparation import batch_size
from deepsdf.training.ranks import Ranks
from deepsdf.training.samples import SplitSamples
from deepsdf.training.train import train
from deepsdf.workspace import Experiment

SETTINGS = {
    "NumEpochs": 3, "ScenesPerBatch": 4, "CodeRegularizationLambda": 0.1, "Loss": "pulling_l1", "GradientClipNorm": 0.5,
    "LogFrequency": 1, "AdditionalSnapshots": [], "SnapshotFrequency": 2,
}  # fmt: skip

WORK = """
import os, sys
import torch
from deepsdf.training.train import train
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")  # once: two rendezvous in a row at one port may miss each other
told, failed = [], []
for root, resume in zip(sys.argv[1::2], sys.argv[2::2]):
    train(root, device="cpu", resume=resume or None, on_epoch=told.append, on_failure=failed.append)
print(os.environ["RANK"], len(told), len(failed))
torch.distributed.barrier()  # who leaves first takes the meeting place along
torch.distributed.destroy_process_group()
"""


def train_in_two(*jobs: tuple[Experiment, str]) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [word for experiment, resume in jobs for word in (str(experiment.root), resume)]
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORK, *words],
            env=common | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=250)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    return told


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def assert_close(one: Experiment, other: Experiment) -> None:
    """The same files but for rounding."""
    for path, twin in zip(one.checkpoint_files("latest"), other.checkpoint_files("latest"), strict=True):
        flat, twin_flat = dict(flatten(read(path))), dict(flatten(read(twin)))
        assert list(flat) == list(twin_flat)
        for name, value in flat.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(twin_flat[name], value, rtol=1e-4, atol=1e-6, msg=name)
            else:
                assert twin_flat[name] == value, name
    logs, twin_logs = read(one.logs_path), read(other.logs_path)
    assert twin_logs["loss"] == pytest.approx(logs["loss"], rel=1e-5)
    assert [float(v) for v in twin_logs["latent_magnitude"]] == pytest.approx(
        [float(v) for v in logs["latent_magnitude"]], rel=1e-5
    )


def flatten(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from flatten(value, f"{name}/{key}")
    elif isinstance(content, list):
        for key, value in enumerate(content):
            yield from flatten(value, f"{name}/{key}")
    else:
        yield name, content


def test_two_processes_are_one_with_the_same_batches(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    two, continued = toys.experiment("two", **SETTINGS), toys.experiment("continued", **SETTINGS)
    alone = toys.experiment("alone", **SETTINGS)
    calls = 0

    def batches(samples: SplitSamples, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """The union of what rank 0 draws of scenes 0, 2, 4 and rank 1 of 1, 3, 5."""
        nonlocal calls
        calls += 1
        orders = []
        for rank in range(2):
            seed = independent_seeds(2, 0, calls, rank)[0]
            orders.append(torch.randperm(3, generator=torch.Generator().manual_seed(seed)) * 2 + rank)
        yield torch.cat([order[: size // 2] for order in orders])

    with monkeypatch.context() as patch:
        patch.setattr(SplitSamples, "batches", batches)
        train(alone, device="cpu")
        calls = 0
        stopped: list[int] = []
        train(continued, device="cpu", on_epoch=lambda r: stopped.append(r.epoch), should_stop=lambda: 1 in stopped)
        assert read(continued.model_path("latest"))["epoch"] == 2
    # Begun by one process and continued by two; and by two from the start.
    told = train_in_two((two, ""), (continued, "latest"))
    assert told == ["0 4 0\n", "1 0 0\n"]
    assert_close(two, alone)
    assert_close(continued, alone)
    # And continued by one again: nothing in the files tells that there were two.
    more = toys.experiment("two", **{**SETTINGS, "NumEpochs": 4})
    train(more, device="cpu", resume="latest")
    assert read(more.model_path("latest"))["epoch"] == 4


def test_tables_are_shared_out_and_put_together() -> None:
    table = torch.arange(14).reshape(7, 2)
    for count in (1, 2, 3, 7):
        ranks = [Ranks(rank, count) for rank in range(count)]
        for rank in ranks:
            own = torch.tensor([scene for scene in range(7) if rank.owns(scene)])
            assert torch.equal(rank.share(table)[rank.rows(own)], table[own])
        assert sum(len(rank.share(table)) for rank in ranks) == 7
    assert_same(Ranks().whole(table, 7), table)


def test_a_batch_that_cannot_be_shared_evenly(toys: Toys) -> None:
    with pytest.raises(InputError, match="ScenesPerBatch is 4, which is not a multiple of the 3 processes; start a"):
        batch_size(6, 6, toys.experiment(ScenesPerBatch=4), Ranks(0, 3))
