"""The programs that measure on a GPU, where there is none: one line."""

import importlib
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "method_step", "memory"])
def test_without_a_gpu_nothing_is_measured_and_a_line_says_so(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--accelerator", "gpu"])
    assert importlib.import_module(name).main() == 0
    assert capsys.readouterr().out.startswith("There is no GPU: nothing was measured")
