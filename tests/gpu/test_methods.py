"""Every method on a CUDA GPU: near the CPU's weights, at mixed precision, and gone on with."""

import copy
import os

import pytest
import torch
from helpers import interrupt_after
from methods.test_all import SETTINGS, SMALL, fitting, same
from safetensors.torch import load_file

import clbench
from clbench.methods import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
    pytest.mark.filterwarnings("ignore:.*non-deterministic algorithm"),  # asked to warn
    pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler"),  # float16 skips a step
]
#: Methods that draw on the device, where the generator is another.
DRAWS = {"mofo", "dare", "ranpac", "lora", "inflora", "sd_lora"}
#: How far the weights' change may be from that on the CPU, as a share of it.
NEAR = 0.02


@pytest.fixture
def small(recipe, no_pictures, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    small = recipe | copy.deepcopy(SMALL)
    small["optimizer"] = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    yield small
    torch.use_deterministic_algorithms(False)  # Lightning leaves it as it was asked for last


def run(recipe, folder, name, resume=False, **trainer):
    methods = {name: SETTINGS.get(name, {})}
    values = fitting(recipe, methods) | {"methods": methods}
    if METHODS[name].optimizers:
        values["optimizer"] = {"name": METHODS[name].optimizers[0], "lr": 2e-3}
    values["trainer"] = values["trainer"] | {"accelerator": "gpu", "devices": 1} | trainer
    record = clbench.run(values, folder, resume=resume)
    return record, load_file(folder / "model.safetensors")


def change(weights, other):
    return torch.cat([(weights[k] - other[k]).float().flatten() for k in weights]).norm()


@pytest.mark.parametrize("name", METHODS)
def test_trains_as_on_the_cpu(small, tmp_path, name):
    record, ours = run(small, tmp_path / "gpu", name)
    cpu, theirs = run(small, tmp_path / "cpu", name, accelerator="cpu")
    assert record.finished
    assert record.summary()["inactive"] == cpu.summary()["inactive"]
    assert ours.keys() == theirs.keys()
    if name not in DRAWS:
        zero = {key: torch.zeros_like(value) for key, value in theirs.items()}
        far = change(ours, theirs) / change(theirs, zero)
        print(f"{name}: {far:.1e} of the weights' norm")
        assert far < NEAR


@pytest.mark.parametrize("name", METHODS)
def test_resumes_bit_for_bit(small, tmp_path, monkeypatch, name):
    _, whole = run(small, tmp_path / "whole", name, deterministic="warn")
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            run(small, tmp_path / "cut", name, deterministic="warn")
    _, cut = run(small, tmp_path / "cut", name, resume=True, deterministic="warn")
    assert same(whole, cut)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", METHODS)
def test_trains_at_mixed_precision(small, tmp_path, name, precision):
    record, weights = run(small, tmp_path / "run", name, precision=precision)
    assert record.finished
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
