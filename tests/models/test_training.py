import pytest
import torch
import torch.nn.functional as F

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.errors import ClbenchError
from clbench.models import features, pretraining
from clbench.models.pretraining import pretrain
from clbench.models.settings import ModelConfig, Probe
from clbench.models.tiny import TinyCNN
from clbench.models.training import extract, linear_probe
from clbench.streams import Stream
from clbench.weights import snapshot

PLAIN = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment())
CONFIG = ModelConfig(
    backbone="tiny_cnn",
    weights="pretrain",
    options={"width": 8},
    pretraining={"epochs": 2, "batch_size": 16},
)


class SlowImages(TensorImages):
    slow = True


def split(kind=TensorImages, count=40):
    """Class 0 is dark, class 1 bright."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    noise = torch.randint(100, (count, 3, 8, 8), generator=random)
    pixels = (noise + 150 * labels.view(-1, 1, 1, 1)).byte()
    order = torch.randperm(count, generator=random)
    return Split(kind(pixels), order, labels[order])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TinyCNN(2, width=8).train()


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 0), (100, 0), (7, 3)])
def test_features_equal_those_of_each_image_alone(network, batch_size, workers):
    data = split(SlowImages)
    found = extract(network, data, Reader(PLAIN, batch_size, workers))
    assert network.training
    network.eval()
    with torch.no_grad():
        for row, position in zip(found, data.index.tolist(), strict=True):
            alone = features(network, PLAIN.test(data.images.tensor[position][None]))
            torch.testing.assert_close(row, alone[0])


def test_features_are_not_augmented(network):
    rules = Augment(flip=True, crop="pad", jitter=0.5)
    augmented = Transform(8, (0.5,) * 3, (0.5,) * 3, rules)
    found, wanted = (extract(network, split(), Reader(t, 8, 0)) for t in (augmented, PLAIN))
    assert torch.equal(found, wanted)


def test_features_of_images_augmented_by_given_numbers(network):
    augmented = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment(flip=True, crop="pad", jitter=0.5))
    data, draws = split(), torch.rand(40, DRAWS)
    found = extract(network, data, Reader(augmented, 7, 0), draws)
    network.eval()
    with torch.no_grad():
        wanted = features(network, augmented.train(data.images.take(data.index), draws))
    torch.testing.assert_close(found, wanted)


def separable(count=60, classes=3):
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    return F.one_hot(labels, 8) + 0.1 * torch.randn(count, 8, generator=random), labels


def test_probe_learns_separable_data():
    found, labels = separable()
    head, losses = linear_probe(found, labels, 3, Probe(lr=0.5), 0)
    assert (head(found).argmax(1) == labels).all()
    assert losses.mean() < 0.2
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_probe_losses_are_those_of_its_head():
    found, labels = separable()
    head, losses = linear_probe(found, labels, 3, Probe(epochs=2), 0)
    torch.testing.assert_close(losses, F.cross_entropy(head(found), labels, reduction="none"))
    assert not losses.requires_grad


def test_probe_goes_on_from_a_head_that_is_given():
    found, labels = separable()
    first = linear_probe(found, labels, 3, Probe(epochs=2), 0)[0]
    before = first.weight.clone()
    rules = Probe(epochs=1, lr=1e-30, weight_decay=0)
    assert torch.equal(linear_probe(found, labels, 3, rules, 5, start=first)[0].weight, before)
    moved = linear_probe(found, labels, 3, Probe(epochs=1, lr=0.5), 5, start=first)[0]
    assert not torch.equal(moved.weight, before)
    assert torch.equal(first.weight, before)


def test_probe_depends_on_its_keys_only():
    found, labels = separable()
    one = linear_probe(found, labels, 3, Probe(epochs=2), 0, 4)[0]
    torch.rand(5)
    two = linear_probe(found, labels, 3, Probe(epochs=2), 0, 4)[0]
    other = linear_probe(found, labels, 3, Probe(epochs=2), 0, 5)[0]
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)


def test_probe_follows_sgd_written_out():
    """One full batch an epoch, so that the order does not matter."""
    found, labels = separable()
    rules = Probe(epochs=1, batch_size=100, lr=0.3, momentum=0.9, weight_decay=0.01)
    first = linear_probe(found, labels, 3, rules.model_copy(update={"epochs": 0}), 1)[0]
    weight, bias = first.weight.clone().requires_grad_(), first.bias.clone().requires_grad_()
    speed = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(3):
        loss = F.cross_entropy(found @ weight.T + bias, labels)
        gradients = torch.autograd.grad(loss, (weight, bias))
        with torch.no_grad():
            for x, v, gradient in zip((weight, bias), speed, gradients, strict=True):
                v.mul_(0.9).add_(gradient + 0.01 * x)
                x -= 0.3 * v
    head = linear_probe(found, labels, 3, rules.model_copy(update={"epochs": 3}), 1)[0]
    torch.testing.assert_close(head.weight, weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.bias, bias.detach(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def stream():
    data = split()
    manifest = {"train_images": data.images.fingerprint()}
    nothing = torch.zeros(40, dtype=torch.bool)
    return Stream((), (), data.images, data.images, nothing, (data, data), False, manifest)


@pytest.fixture
def run(stream, tmp_path, monkeypatch):
    """Pretrain; the list tells how often the network was really trained."""
    real = pretraining._train
    trained = []
    monkeypatch.setattr(pretraining, "_train", lambda *a: trained.append(1) or real(*a))

    def call(config=CONFIG, transform=PLAIN, seed=0, cache=tmp_path / "cache"):
        lines = []
        cpu = torch.device("cpu")
        state = pretrain(config, stream, transform, seed, cpu, cache, lines.append)
        return state, lines

    call.trained = trained
    return call


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_pretraining_is_done_once(run):
    state, lines = run()
    assert "Pretraining tiny_cnn on 40 images" in lines[0]
    again, lines = run()
    assert "Pretrained weights from" in lines[0]
    assert equal(state, again)
    assert len(run.trained) == 1


def test_pretraining_equals_itself(run, tmp_path):
    torch.manual_seed(3)
    state, _ = run()
    torch.rand(10)
    again, _ = run(cache=tmp_path / "elsewhere")
    assert equal(state, again)
    assert len(run.trained) == 2


def test_pretraining_learns(run, network):
    config = CONFIG.model_copy(
        update={"pretraining": CONFIG.pretraining.model_copy(update={"epochs": 20})}
    )
    network.load_state_dict(run(config)[0])
    network.eval()
    data = split()
    logits = network(PLAIN.test(data.images.take(data.index)))
    assert (logits.argmax(1) == data.labels).float().mean() > 0.95


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"config": CONFIG.model_copy(update={"options": {"width": 16}})},
        {
            "config": CONFIG.model_copy(
                update={"pretraining": CONFIG.pretraining.model_copy(update={"lr": 1e-3})}
            )
        },
        {"transform": Transform(12, (0.5,) * 3, (0.5,) * 3, Augment())},
        {"transform": Transform(8, (0.4,) * 3, (0.5,) * 3, Augment())},
        {"transform": Transform(8, (0.5,) * 3, (0.4,) * 3, Augment())},
    ],
)
def test_other_settings_are_trained_anew(run, change):
    state, _ = run()
    other, _ = run(**change)
    assert len(run.trained) == 2
    assert not equal(state, other)


def test_other_data_are_trained_anew(run, stream):
    run()
    stream.manifest["train_images"] = "other"
    run()
    stream.pretraining[0].labels.copy_(1 - stream.pretraining[0].labels)
    run()
    assert len(run.trained) == 3


def test_settings_of_the_later_training_use_the_same_weights(run):
    run()
    run(CONFIG.model_copy(update={"head": "linear_probe", "channels_last": True}))
    run(transform=Transform(8, (0.5,) * 3, (0.5,) * 3, Augment(flip=True)))
    assert len(run.trained) == 1


def test_cut_off_pretraining_leaves_nothing_half(run, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    state, _ = run()
    assert equal(state, run(cache=tmp_path / "elsewhere")[0])


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_damaged_cache_is_made_anew(run, tmp_path, place):
    state, _ = run()
    (path,) = (tmp_path / "cache").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[place if place <= 0 and isinstance(place, int) else int(len(content) * place)] ^= 1
    path.write_bytes(content)
    again, lines = run()
    assert "is damaged" in lines[0]
    assert equal(state, again)
    assert "Pretrained weights from" in run()[1][0]


def test_a_warm_cache_needs_no_writing(run, tmp_path, monkeypatch):
    state, _ = run()

    def refuse(*_, **__):
        raise OSError("read-only file system")

    monkeypatch.setattr(pretraining, "alone", refuse)
    assert equal(state, run()[0])


def test_unusable_cache_is_one_clear_error(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClbenchError, match=r"cache of pretrained weights .*file/cache cannot be"):
        run(cache=tmp_path / "file" / "cache")


def test_pretrained_state_fits_a_fresh_network(run, network):
    state, _ = run()
    network.load_state_dict(state)
    assert equal(snapshot(network), state)
