"""Weights files as people have them: each is loaded, or refused in one line that says why."""

import argparse
import collections
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clbench.errors import ClbenchError
from clbench.models.backbone import load
from clbench.models.settings import ModelConfig
from clbench.models.weights_file import read
from clbench.weights import sha256


class Settings:
    """A class of somebody's training script."""

    def __init__(self):
        self.lr = 0.1

    def __setstate__(self, state):
        raise AssertionError("code of the file was run")


def model(name="tiny_cnn", size=32, classes=7, **options):
    config = ModelConfig(backbone=name, weights="none", options=options)
    return load(config, classes, size).model


def prefixed(prefix, state):
    return {prefix + name: x for name, x in state.items()}


def loaded(path, name="tiny_cnn", size=32, **options):
    return load(ModelConfig(backbone=name, weights=str(path), options=options), 3, size)


BESIDE = {
    "epoch": 3,
    "args": argparse.Namespace(lr=0.1, model="tiny_cnn"),
    "hyper_parameters": Settings(),
    "metric": np.float64(0.5),
    "counts": collections.Counter("ab"),
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
}


@pytest.mark.parametrize(
    ("file", "make"),
    [
        ("last.pth", lambda s: BESIDE | {"state_dict": s}),
        ("last.pth.tar", lambda s: BESIDE | {"state_dict": prefixed("module.", s)}),
        ("w.ckpt", lambda s: BESIDE | {"state_dict": prefixed("model.", s)}),
        ("w.ckpt", lambda s: {"state_dict": prefixed("model.", s) | {"loss.w": torch.ones(2)}}),
        ("w.pt", lambda s: prefixed("_orig_mod.", s)),
        ("w.pt", lambda s: prefixed("module._orig_mod.", s)),
        ("w.pt", lambda s: {"model": prefixed("net.backbone.", s)}),
        ("w.pt", lambda s: {"model_state_dict": s, "loss": 0.3}),
        ("w.pt", lambda s: {"weights_of_mine": s, "epoch": 3}),
        ("w.pt", lambda s: {"model": {"state_dict": s}}),
        ("w.pt", lambda s: collections.OrderedDict(s)),
        ("w.safetensors", lambda s: prefixed("module.", s)),
        ("w.bin", lambda s: prefixed("backbone.", s)),
        ("no_suffix/w", lambda s: s),
    ],
)
def test_what_people_have_loads(tmp_path, file, make):
    torch.manual_seed(1)
    state = model().state_dict()
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    (save_file if path.suffix == ".safetensors" else torch.save)(make(state), path)
    pretrained = loaded(path)
    assert pretrained.sha256 == sha256(state)
    assert torch.equal(pretrained.head.weight, state["fc.weight"])


@pytest.mark.parametrize("beside", [{}, BESIDE])
def test_torch_s_format_before_1_6_loads(tmp_path, beside):
    state = model().state_dict()
    path = tmp_path / "w.pth"
    torch.save(beside | {"state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert loaded(path).sha256 == sha256(state)


def test_a_sparse_tensor_is_refused_in_one_line(tmp_path, recwarn):
    state = model().state_dict()
    torch.save(state | {"fc.weight": state["fc.weight"].to_sparse()}, tmp_path / "w.pth")
    with pytest.raises(ClbenchError, match=r"fc\.weight is sparse"):
        loaded(tmp_path / "w.pth")
    assert not recwarn.list


def test_what_is_left_out_is_said(tmp_path, capsys):
    state = prefixed("model.", model().state_dict())
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(2)}}, tmp_path / "w.ckpt")
    loaded(tmp_path / "w.ckpt")
    assert "left out what is not in model.* (1: criterion.weight" in capsys.readouterr().out


def test_of_two_sets_of_weights_the_usual_one_is_taken_and_said(tmp_path, capsys):
    state = model().state_dict()
    average = {name: x + 1 for name, x in state.items()}
    torch.save({"state_dict_ema": average, "state_dict": state}, tmp_path / "w.pth")
    assert loaded(tmp_path / "w.pth").sha256 == sha256(state)
    assert "state_dict is taken; state_dict_ema would be" in capsys.readouterr().out


def test_a_network_that_is_there_twice_is_refused(tmp_path):
    state = model().state_dict()
    torch.save(prefixed("student.", state) | prefixed("teacher.", state), tmp_path / "w.pth")
    with pytest.raises(ClbenchError, match=r"hold the network 2 times \(as student\., teacher\.\)"):
        loaded(tmp_path / "w.pth")


def test_a_file_in_the_working_folder_needs_no_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model_best.pth.tar", "mine"):
        torch.save(model().state_dict(), name)
        assert loaded(name).head is not None


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(model().state_dict(), tmp_path / "w.pth")
    assert loaded("~/w.pth").head is not None


def test_a_transformer_of_another_image_size_is_resized_as_timm_does(tmp_path, capsys):
    name, options = "vit_base_patch16_224", {"depth": 1, "embed_dim": 48, "num_heads": 3}
    state = model(name, 64, **options).state_dict()
    torch.save(state, tmp_path / "w.pth")
    pretrained = loaded(tmp_path / "w.pth", name, 96, **options)
    assert pretrained.model.pos_embed.shape == (1, 37, 48)
    assert torch.equal(pretrained.head.weight, state["head.weight"])
    assert "made for another image size" in capsys.readouterr().out
    with pytest.raises(ClbenchError, match="do not fit resnet18: missing"):
        loaded(tmp_path / "w.pth", "resnet18")


def script(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)


def cut(path, share):
    torch.save(model().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def in_itself():
    contents = {}
    contents["state_dict"] = contents
    return contents


def changed(change):
    return {name: change(x) for name, x in model().state_dict().items()}


def text(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: torch.save(model(), path), "holds a whole model.*save model.state_dict"),
        (lambda path: torch.save({"model": model()}, path), "holds a whole model"),
        (lambda path: torch.save(in_itself(), path), "holds no state dict of tensors"),
        (lambda path: torch.save(changed(torch.Tensor.to_sparse), path), "is sparse, not dense"),
        (lambda path: torch.save(changed(lambda x: x.to("meta")), path), "without values"),
        (script, "TorchScript program: save model.state_dict"),
        (lambda path: torch.save(torch.ones(3), path), "holds no state dict of tensors"),
        (lambda path: torch.save({"epoch": 1}, path), r"it holds epoch\): save model"),
        (lambda path: torch.save({"state_dict": {"a": 1}}, path), "in state_dict"),
        (lambda path: torch.save({}, path), "do not fit tiny_cnn: missing"),
        (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "no file of torch or safetensors"),
        (lambda path: path.write_bytes(pickle.dumps({"a": np.ones(3)})), "no file of torch"),
        (text(b""), "the file is empty"),
        (text(b"version https://git-lfs.github.com/spec/v1\n"), "pointer of Git LFS"),
        (text(b"<!DOCTYPE html><html>"), "web page"),
        (text(b"\x1f\x8b\x08abc"), "compressed by gzip"),
        (text(b"\x89HDF\r\n\x1a\n"), "Keras"),
        (text(b"hello, these are no weights at all"), "cannot be read"),
        (text(b"\x80\x02" + b"(" * 10_000), "cannot be read"),
        (text(bytes(1000)), "no file of torch or safetensors"),
        (text(b"hello"), "no file of torch or safetensors"),
        (lambda path: cut(path, 0.5), "is the file whole"),
        (text(b"\xff" * 8 + b"{" + b" " * 64), "cannot be read"),
        (lambda path: path.mkdir(), "there is no file .*but a folder"),
        (os.mkfifo, "there is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "there is no file"),
        (lambda path: path.symlink_to(path), "there is no file"),
    ],
)
@pytest.mark.filterwarnings("error:.*pickle protocol", "error:.*sparse", "error:.*TorchScript")
@pytest.mark.filterwarnings("ignore:.*torch.jit.(trace|save)")
def test_what_cannot_be_loaded_is_one_line(tmp_path, write, message):
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(ClbenchError, match=message) as caught:
        loaded(path)
    line = str(caught.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 500


def test_whole_numbers_are_no_weights(tmp_path):
    state = model().state_dict()
    state["conv1.weight"] = state["conv1.weight"].to(torch.int8)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ClbenchError, match=r"conv1.weight is of torch.int8"):
        loaded(tmp_path / "w.safetensors")


def test_classes_of_the_file_are_not_loaded(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "settings": Settings()}, tmp_path / "w.pth")
    assert read(tmp_path / "w.pth").keys() == {"a"}


def test_the_header_of_safetensors_may_be_of_any_length(tmp_path):
    path, state = tmp_path / "w.safetensors", model().state_dict()
    save_file(state, path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    wanted = 0x3C20  # its bytes look like a space and the beginning of a web page
    content = path.read_bytes()
    header = content[8 : 8 + length].ljust(wanted)
    path.write_bytes(wanted.to_bytes(8, "little") + header + content[8 + length :])
    assert loaded(path).sha256 == sha256(state)


def test_what_torch_wrote_is_read_under_any_name(tmp_path):
    state = model().state_dict()
    torch.save(state, tmp_path / "w.safetensors")
    assert loaded(tmp_path / "w.safetensors").sha256 == sha256(state)
