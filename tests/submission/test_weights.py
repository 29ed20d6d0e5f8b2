"""Weights of the hub in a submission: compared without a network, run again, and never fetched."""

import pytest
import timm
import torch
from safetensors.torch import save
from submitted import RECIPE, members_of, of_run, sealed
from test_hub_weights import WEIGHTS, files

from clbench.runner.runner import run
from clbench.submission import Rerun, opened, pack, verify

MODEL = {"backbone": "tiny_cnn", "weights": WEIGHTS}
CHECK = "weights of the name"


def drawn(seed):
    """A repository of the network without options."""
    torch.manual_seed(seed)
    state = dict(timm.create_model("tiny_cnn", num_classes=3).state_dict())
    return files(model_args={}) | {"model.safetensors": save(state)}


@pytest.fixture
def packed(hub, tmp_path, no_pictures):
    """A run from weights of the hub, packed; they are in the cache, and others there by now."""
    hub.put("me/birds", drawn(0))
    run(RECIPE | {"model": MODEL}, tmp_path / "run")
    hub.put("me/birds", drawn(1))
    hub.asked.clear()
    return pack([tmp_path / "run"], tmp_path / "hub.clbench.zip", "Hub", ["A. Author"]).path


def source(name):
    def change(events):
        events[0]["weights"]["source"] = name

    return change


def test_they_are_compared_at_the_commit_of_the_record(hub, packed, tmp_path):
    (tmp_path / "data" / "birds").mkdir(parents=True)  # a folder of that name is none of the hub
    (row,) = verify(opened(packed), tmp_path / "data")
    assert row.verdict == "self-reported"
    assert CHECK in row.made
    assert hub.asked == []


def test_other_weights_of_that_commit_are_disputed(packed, members_path):
    def change(events):
        events[0]["weights"]["sha256"] = "0" * 64

    (row,) = verify(opened(members_path(packed, change)))
    assert any(reason.startswith(f"{CHECK}: ") for reason in row.reasons)


def test_a_run_from_them_is_run_again(hub, packed):
    (row,) = verify(opened(packed), rerun=Rerun(tell=lambda _: None))
    assert row.verdict == "verified"
    assert hub.asked == []


def test_what_is_not_here_is_not_fetched(hub, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    (row,) = verify(opened(packed), rerun=Rerun(tell=lambda _: None))
    assert row.verdict == "self-reported"
    assert "needs hf-hub:me/birds" in row.not_made[CHECK]
    assert "needs hf-hub:me/birds" in row.not_made["rerun"]
    assert hub.asked == []


@pytest.mark.parametrize("name", ["none", "pretrain", "hf-hub:me/cats", "resnet18.a1_in1k"])
def test_a_record_that_calls_them_otherwise_is_disputed(packed, members_path, name):
    (row,) = verify(opened(members_path(packed, source(name))))
    assert row.verdict == "disputed"
    assert any(r.startswith("record of the recipe: ") and "weights" in r for r in row.reasons)


@pytest.fixture
def members_path(tmp_path):
    """A copy of a submission whose first record is changed."""

    def made(path, change):
        forged = tmp_path / "forged.clbench.zip"
        forged.write_bytes(sealed(of_run(members_of(path), 0, change)))
        return forged

    return made
