"""Learning on a GPU comes to what it comes to on the CPU; where there is none, it says so."""

import numpy as np
import pytest
import torch

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.errors import ConfigError
from tallynode.lab.study import run_case

METHODS = ("tally", "fd", "fedct", "cfd", "fedmd", "fedavg", "fedprox", "feddf", "local")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def mesh_on(device: str, name: str, **method: object) -> Mesh:
    """Four peers on digits, three rounds."""
    return Mesh.model_validate(
        {
            "mesh": "device",
            "graph": "complete",
            "peers": 4,
            "task": {
                "model": "mlp",
                "device": device,
                "test": 200,
                "probes": {"count": 100},
                "partition": {"per_peer": 100},
            },
            "rounds": {"count": 3},
            "method": {"name": name, "hops": 1, **method},
        }
    )


@needs_none
def test_a_gpu_that_is_not_there_is_named() -> None:
    """The peer says what it lacks, before it has loaded anything."""
    with pytest.raises(ConfigError, match=r"peer-1: device: cuda, but torch .* finds no GPU here"):
        assemble.parts(mesh_on("cuda", "tally"), "peer-1")


def test_a_peer_has_a_device_of_its_own() -> None:
    """As with its model: a Jetson among Pis."""
    mesh = mesh_on("cpu", "tally").model_dump(mode="json", exclude_none=True)
    mesh["peers"] = [{"name": "pi"}, {"name": "jetson", "device": "cuda"}]
    read = Mesh.model_validate(mesh)
    assert [read.train_settings(peer).device for peer in read.peers] == ["cpu", "cuda"]


@needs_gpu
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_on_a_gpu(name: str) -> None:
    """The same batches in the same order: what differs is rounding."""
    cpu, gpu = (run_case(mesh_on(device, name)) for device in ("cpu", "cuda"))
    assert np.abs(np.subtract(cpu.by_round, gpu.by_round)).max() < 0.03


@needs_gpu
def test_the_bridge_and_drawn_votes_work_on_a_gpu() -> None:
    """Deltas are of the parameters on the CPU; noise is the CPU's, so that it is the same."""
    more = {"bridge": {"every": 1, "density": 0.1}, "sampled_from": 2}
    cpu, gpu = (run_case(mesh_on(device, "tally", **more)) for device in ("cpu", "cuda"))
    assert np.abs(np.subtract(cpu.by_round, gpu.by_round)).max() < 0.03


@needs_gpu
def test_a_state_of_one_device_serves_on_another() -> None:
    """A checkpoint is of the CPU; who resumes puts it where it computes."""
    gpu, cpu = (assemble.parts(mesh_on(of, "tally"), "peer-1").method for of in ("cuda", "cpu"))
    gpu.train(1, np.arange(100))
    saved = {key: value.cpu() for key, value in gpu.state().items()}
    for method in (gpu, cpu):
        method.load(saved)
    votes = [method.train(2, np.arange(100)) for method in (gpu, cpu)]
    assert (votes[0] == votes[1]).mean() > 0.95
