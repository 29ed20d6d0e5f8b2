"""Augmentation, evaluation and transfers on a CUDA GPU, compared with the CPU."""

import pytest
import torch
from torch import nn

from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import Images, TensorImages
from clbench.data.reader import Reader
from clbench.data.sending import sent
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.measure.evaluate import Evaluator
from clbench.models.tiny import TinyCNN

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
HALF = (0.5, 0.5, 0.5)
AUGMENTS = [
    Augment(),
    Augment(crop="pad", flip=True),
    Augment(crop="resized", flip=True, jitter=0.4),
    Augment(erasing=0.5),
]


@pytest.fixture
def gpu():
    return torch.device("cuda", 0)


@pytest.fixture
def images():
    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (24, 3, 16, 16), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_augmentation_is_that_of_the_cpu(gpu, images, augment):
    draws = torch.rand(24, DRAWS, generator=torch.Generator().manual_seed(1))
    transform = Transform(16, HALF, HALF, augment)
    ours = transform.train(images.to(gpu), draws.to(gpu))
    theirs = transform.train(images, draws)
    assert ours.device == gpu
    torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("on_device", [True, False])
def test_evaluation_is_that_of_the_cpu(gpu, images, on_device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model, labels = TinyCNN(num_classes=4), torch.arange(24) % 4
    owner, seen = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    evaluator = Evaluator(Reader(Transform(16, HALF, HALF, Augment()), batch_size=7))

    def scores(device):
        source = TensorImages(images)
        if on_device:
            source.move(device)
        split = Split(source, torch.arange(24), labels)
        return evaluator.accuracy(model.to(device), [split], owner, seen)

    assert scores(gpu) == scores(torch.device("cpu"))


class FromDisk(Images):
    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def take(self, index):
        return self.pixels[index]

    def fingerprint(self):
        return ""


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_arrive_whole_while_the_gpu_is_busy(gpu, workers):
    pixels = torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8)
    split = Split(FromDisk(pixels), torch.arange(64), torch.arange(64))
    busy, found = torch.rand(2048, 2048, device=gpu), []
    for batch in Batches(Examples(split), 8, (0,), workers=workers, device=gpu):
        busy = (busy @ busy).clamp(-1, 1)
        assert batch.images.device == batch.labels.device == batch.draws.device == gpu
        found.append(batch)
    for batch in found:
        assert torch.equal(batch.images.cpu(), pixels[batch.labels.cpu()])


def test_what_is_sent_is_not_waited_for(gpu):
    layer = nn.Linear(4096, 4096, device=gpu)
    inputs = torch.rand(4096, 4096, device=gpu)
    sent(torch.ones(8), gpu)  # the first takes memory to pin
    torch.cuda.synchronize()
    with torch.no_grad():
        for _ in range(50):
            inputs = layer(inputs)
    mark = torch.cuda.Event()
    mark.record()
    on_its_way = sent(torch.ones(8), gpu)
    assert not mark.query()  # the GPU is still at it
    assert on_its_way.sum().item() == 8
