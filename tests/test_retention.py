from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.estimate.needed import retained
from clbench.measure.evaluate import Evaluator
from clbench.measure.retention import RetentionTest
from clbench.models import ModelConfig, features
from clbench.models.backbone import load
from clbench.models.missing import missing_weights
from clbench.recipe.recipe import parse
from clbench.streams import Stream
from clbench.streams.outline import Needed

# Some of ImageNet-1k's classes and the numbers they have there.
LABELS = [0, 1, 7, 207, 999]
WNIDS = [ImageNetInfo("imagenet-1k").index_to_label_name(label) for label in LABELS]
CPU = torch.device("cpu")


@pytest.fixture
def val(tmp_path):
    """Images of one colour a class, two each; ``data_dir`` is two folders up."""
    root = tmp_path / "imagenet" / "val"
    for number, wnid in enumerate(WNIDS):
        (root / wnid).mkdir(parents=True)
        for i in range(2):
            colour = (50 * number + 20, 10 * i, 200 - 40 * number)
            path = root / wnid / f"ILSVRC2012_val_{i:08}.JPEG"
            Image.new("RGB", (40, 30), colour).save(path, "JPEG", quality=95)
    return root


@pytest.fixture
def network(tmp_path):
    """A ResNet-18 from a file with a head of so many classes."""

    def make(classes=1000):
        torch.manual_seed(0)
        first = load(ModelConfig(backbone="resnet18", weights="none"), classes, 32)
        path = tmp_path / "weights.safetensors"
        save_file(first.model.state_dict(), path)
        return load(ModelConfig(backbone="resnet18", weights=str(path)), 4, 32)

    return make


def recipe(data_dir, weights="weights.safetensors", size=32, **retention):
    return parse(
        {
            "stream": {"name": "split_digits"},
            "model": {"backbone": "resnet18", "weights": weights},
            "images": {"size": size},
            "retention": retention,
            "data_dir": str(data_dir),
            "epochs": 1,
        }
    )


def evaluator(pretrained, size=32):
    transform = Transform(size, pretrained.mean, pretrained.std, Augment())
    return Evaluator(Reader(transform, 4, 0))


def make(values, pretrained, stream=None):
    size = values.images.size
    return RetentionTest.make(values, stream, pretrained, evaluator(pretrained, size), CPU)


def images(test):
    """Those of the only set."""
    (one,) = test.sets
    return one.split


def test_images_have_the_labels_of_imagenet(tmp_path, val, network):
    test = make(recipe(tmp_path), network())
    order = [label for _, label in sorted(zip(WNIDS, LABELS, strict=True)) for _ in range(2)]
    assert images(test).labels.tolist() == order
    red = images(test).images.take(images(test).index)[:, 0, 16, 16]
    wanted = torch.tensor([50 * LABELS.index(label) + 20 for label in order])
    assert (red.long() - wanted).abs().max() <= 3


@pytest.mark.parametrize("size", [32, 64])
def test_images_are_kept_so_that_the_usual_centre_is_left(tmp_path, val, network, size):
    pretrained = network()
    test = make(recipe(tmp_path, size=size), pretrained)
    assert pretrained.crop_pct == 0.95  # of timm's ResNet-18
    side = {32: 34, 64: 67}[size]
    assert images(test).images.take(torch.tensor([0])).shape == (1, 3, side, side)


@pytest.fixture
def noise(val):
    """The images as noise of several shapes, some of them many times larger than the input."""
    for number, path in enumerate(sorted(val.rglob("*.JPEG"))):
        shape = (600 + 90 * number, 900 - 70 * number, 3)
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(shape[1::-1]).save(path, "JPEG", quality=90)
    return val


def test_timms_own_transform_to_the_pixel(tmp_path, noise, network):
    pretrained = network()
    test = make(recipe(tmp_path, transform="timm"), pretrained)
    config = resolve_data_config({}, model=pretrained.model)
    theirs = create_transform(**config)
    paths = images(test).images.files.paths
    wanted = torch.stack([theirs(Image.open(path).convert("RGB")) for path in paths])
    found = test.evaluator.reader.transform.test(images(test).images.take(images(test).index))
    assert found.shape[-1] == config["input_size"][-1] == 224  # beside images of 32 pixels
    torch.testing.assert_close(found, wanted)
    assert set(test.measure(pretrained.model)["retention"]) == {"top1", "top5"}


def test_another_transform_has_a_cache_of_its_own(tmp_path, noise, network):
    pretrained = network()
    both = [
        images(make(recipe(tmp_path, size=224, transform=rule), pretrained)).images
        for rule in ("stored", "timm")
    ]
    assert both[0].fingerprint() != both[1].fingerprint()


def test_timms_transform_needs_a_network_that_takes_its_size(tmp_path, val, network):
    pretrained = network()
    pretrained.model.pretrained_cfg = dict(pretrained.model.pretrained_cfg, fixed_input_size=True)
    assert make(recipe(tmp_path, size=224, transform="timm"), pretrained) is not None
    with pytest.raises(ClbenchError, match=r"images of 224 pixels, but .* images.size = 32"):
        make(recipe(tmp_path, transform="timm"), pretrained)


def test_a_dry_run_knows_what_the_run_will_measure_on(tmp_path, val, network):
    network()
    weights, stream = str(tmp_path / "weights.safetensors"), SimpleNamespace(pretraining=None)
    for rule, side, larger in (("stored", 34, 1), ("timm", 224, 49)):
        needed, values = Needed(), recipe(tmp_path, weights, transform=rule)
        found = retained(values, stream, needed, None)
        assert (found.images, found.larger) == (10, larger)
        assert needed.cache == 10 * 3 * side**2
        make(values, load(values.model, 4, 32))
        retained(values, stream, again := Needed(), None)
        assert again.cache == 0
    gone = recipe(tmp_path, "gone.pth", data=str(val))
    told = retained(gone, stream, Needed(), missing_weights(gone.model)).why
    assert told == ("retention is not counted, as its weights are not here",)


def test_a_dry_run_refuses_a_size_that_the_run_would_refuse(tmp_path, val, monkeypatch):
    values = {"model": {"backbone": "vit_tiny_patch16_224", "weights": "augreg_in21k_ft_in1k"}}
    values = parse(recipe(tmp_path, transform="timm").model_dump(mode="json") | values)
    with pytest.raises(ClbenchError, match=r"images of 224 pixels, but .* images.size = 32"):
        retained(values, SimpleNamespace(pretraining=None), Needed(), None)


def test_measures_with_the_original_head(tmp_path, val, network):
    pretrained = network()
    test = make(recipe(tmp_path), pretrained)
    model = pretrained.model.eval()
    with torch.no_grad():
        # The head is made to know class 207, and nothing else.
        pretrained.head.bias[207] = 100.0
        assert test.measure(model)["retention"]["top1"] == 0.2
        inputs = test.evaluator.reader.transform.test(images(test).images.take(images(test).index))
        best = pretrained.head(features(model, inputs)).topk(5).indices
        right = (best == images(test).labels[:, None]).float()
    found = test.measure(model)["retention"]
    assert found["top1"] == pytest.approx(float(right[:, 0].mean()))
    assert found["top5"] == pytest.approx(float(right.sum(1).mean()))


def test_a_folder_of_ones_own(tmp_path, val, network):
    elsewhere = val.rename(tmp_path / "mine")
    assert make(recipe(tmp_path), network()) is None
    assert len(images(make(recipe(tmp_path, data=str(elsewhere)), network()))) == 10


@pytest.mark.parametrize("classes", [4, 1001])
def test_other_heads_measure_nothing_by_themselves(tmp_path, val, network, classes):
    pretrained = network(classes)
    assert make(recipe(tmp_path), pretrained) is None
    with pytest.raises(ClbenchError, match=r"have no head of the 1,000 ImageNet classes: set"):
        make(recipe(tmp_path, data=str(val)), pretrained)


def test_weights_of_none_have_no_head(tmp_path, val):
    pretrained = load(ModelConfig(backbone="resnet18", weights="none"), 4, 32)
    assert make(recipe(tmp_path, weights="none"), pretrained) is None
    with pytest.raises(ClbenchError, match=r"model.weights = 'none' have no head"):
        make(recipe(tmp_path, weights="none", data=str(val)), pretrained)


def test_none_measures_nothing(tmp_path, val, network):
    assert make(recipe(tmp_path, data="none"), network()) is None


def test_folder_that_does_not_exist(tmp_path, network):
    with pytest.raises(ClbenchError, match="nowhere does not exist"):
        make(recipe(tmp_path, data=str(tmp_path / "nowhere")), network())


def test_folder_that_is_no_class_of_imagenet(tmp_path, val, network):
    (val / WNIDS[0]).rename(val / "tench")
    with pytest.raises(ClbenchError, match="not ImageNet-1k classes: tench"):
        make(recipe(tmp_path), network())


def test_corrupt_image_is_named(tmp_path, val, network):
    bad = next((val / WNIDS[2]).iterdir())
    bad.write_bytes(b"nothing")
    with pytest.raises(ClbenchError, match=f"{WNIDS[2]}/{bad.name} cannot be read as an image"):
        make(recipe(tmp_path), network())


def test_pretraining_classes_are_the_default_of_pretrained_in_the_run(tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny_cnn", weights="pretrain", options={"width": 8})
    state = load(config.model_copy(update={"weights": "none"}), 3, 8).model.state_dict()
    pretrained = load(config, 5, 8, dict(state))
    pixels = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    apart = Split(TensorImages(pixels), torch.arange(6), torch.arange(6) % 3)
    stream = Stream((), (), apart.images, apart.images, pixels, (apart, apart), False, {})
    values = parse(
        {
            "stream": {"name": "split_digits"},
            "model": config.model_dump(),
            "images": {"size": 8},
            "epochs": 1,
            "data_dir": str(tmp_path),
        }
    )
    test = make(values, pretrained, stream)
    assert images(test) is apart
    assert test.sets[0].head is pretrained.head
    assert set(test.measure(pretrained.model)["retention"]) == {"top1", "top5"}


def test_batch_normalisation_is_put_back_while_measuring_only(tmp_path, val, network):
    pretrained = network()
    model = pretrained.model
    tests = {
        rule: make(recipe(tmp_path, batch_norm=rule), pretrained)
        for rule in ("current", "pretrained")
    }
    seen = {}

    def watch(module, *_):
        seen.setdefault("mean", []).append(module.running_mean.clone())
        seen.setdefault("weight", []).append(module.weight.detach().clone())

    before = {name: x.clone() for name, x in model.state_dict().items()}
    with torch.no_grad():
        model.bn1.running_mean.add_(3)
        model.bn1.weight.mul_(2)
        model.conv1.weight.mul_(0.5)
    changed = {name: x.clone() for name, x in model.state_dict().items()}
    model.bn1.register_forward_hook(watch)
    tests["current"].measure(model)
    assert torch.equal(seen["mean"][0], before["bn1.running_mean"] + 3)
    seen.clear()
    tests["pretrained"].measure(model)
    assert all(torch.equal(x, before["bn1.running_mean"]) for x in seen["mean"])
    assert all(torch.equal(x, before["bn1.weight"]) for x in seen["weight"])
    assert all(torch.equal(x, changed[name]) for name, x in model.state_dict().items())


def test_batch_normalisation_is_its_own_again_after_an_error(tmp_path, val, network):
    pretrained = network()
    test = make(recipe(tmp_path, batch_norm="pretrained"), pretrained)
    with torch.no_grad():
        pretrained.model.bn1.running_mean.add_(3)
    own = pretrained.model.bn1.running_mean.clone()

    def stop(*_):
        raise RuntimeError("stop")

    pretrained.model.bn1.register_forward_hook(stop)
    with pytest.raises(RuntimeError, match="stop"):
        test.measure(pretrained.model)
    assert torch.equal(pretrained.model.bn1.running_mean, own)
