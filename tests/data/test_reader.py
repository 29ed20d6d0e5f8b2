import pytest
import timm
import torch

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.learner.deploy import refresh_batch_norm
from clbench.methods.context import Context
from clbench.methods.ewc import EWC
from clbench.methods.flow import FLOW
from clbench.methods.gem import AGEM, GEM
from clbench.methods.head_refit import HeadRefit
from clbench.methods.replay import Replay
from clbench.models import head_names, tiny  # noqa: F401  (registers the tiny backbones)
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.models.settings import Probe
from clbench.streams import Task
from clbench.weights import snapshot

CPU = torch.device("cpu")
CHANGING = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment(flip=True, crop="pad"))


class SlowImages(TensorImages):
    slow = True


def split(kind=TensorImages, count=20):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (30, 3, 8, 8), generator=random).byte()
    index = torch.randperm(30, generator=random)[:count]
    return Split(kind(pixels), index, torch.arange(count) % 3)


@pytest.mark.parametrize("kind", [TensorImages, SlowImages])
@pytest.mark.parametrize("parts", [None, [[3, 1], [], [19]]])
@pytest.mark.parametrize("augmented", [False, True])
def test_batches_are_those_of_a_plain_loop(kind, parts, augmented):
    data, draws_ND = split(kind), torch.rand(20, DRAWS)
    wanted = parts or [list(range(7)), list(range(7, 14)), list(range(14, 20))]
    given = parts and [torch.tensor(part, dtype=torch.int64) for part in parts]
    reader = Reader(CHANGING, 7, workers=3)
    found = list(reader.batches(data, CPU, given, draws_ND if augmented else None))
    assert [batch.positions.tolist() for batch in found] == [part for part in wanted if part]
    for inputs, labels, positions in found:
        images = data.images.take(data.index[positions])
        plain = CHANGING.train(images, draws_ND[positions]) if augmented else CHANGING.test(images)
        assert torch.equal(inputs, plain)
        assert torch.equal(labels, data.labels[positions])


def test_a_split_without_images_has_no_batches():
    assert list(Reader(CHANGING).batches(split(count=0), CPU)) == []


def fisher(context):
    EWC(samples=12).finish(context)


def refreshed(context):
    refresh_batch_norm(context.model, snapshot(context.model), "recompute", {}, context)


def herding(context):
    Replay(size=5, selection="herding").finish(context)


def reference(context):
    FLOW(probe=Probe(epochs=1)).start(context)


def folds(context):
    FLOW(probe=Probe(epochs=1), losses="out_of_fold").start(context)


def refit(context):
    HeadRefit(probe=Probe(epochs=1)).deploy(snapshot(context.model), context)


def memory(kind):
    def projected(context):
        method = kind(samples=12)
        method.finish(context)
        method.start(context)
        for parameter in context.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        method.project(context.model)

    projected.__name__ = kind.__name__
    return projected


@pytest.mark.parametrize(
    ("reads", "sizes"),
    [
        (fisher, [7, 5]),
        (refreshed, [7, 7, 6]),
        (herding, [7, 7, 6]),
        (reference, [7, 7, 6]),
        (folds, [7, 7, 6]),
        (refit, [7, 7, 6]),
        # Their batches are training's.
        (memory(GEM), [4, 4, 4]),
        (memory(AGEM), [5]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_everything_reads_through_the_runs_reader(reads, sizes):
    """By its batch size and, where features are made, in its precision."""
    data, seen, entered = split(SlowImages), [], []

    class Noted:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *_):
            return None

    class Watched(Reader):
        def batches(self, *arguments, **more):
            for batch in super().batches(*arguments, **more):
                seen.append(len(batch.inputs))
                yield batch

    torch.manual_seed(0)
    model = timm.create_model("tiny_cnn", num_classes=3, width=8)
    model.norm1 = torch.nn.BatchNorm2d(8)
    rows = torch.ones(3, dtype=torch.bool)
    anchor = Anchor(snapshot(model), rows)
    context = Context(
        task=Task(0, "task", range(3), data, data, data),
        model=model,
        head=head_names(model),
        anchors=Anchors(anchor, anchor),
        reader=Watched(CHANGING, 7, 2, Noted),
        losses=ClassLoss("all", data.labels.unique(), torch.zeros(3).long(), rows),
        seed=3,
        batch_size=5,
        total_steps=1,
        probe_losses=None,
        probe=Probe(),
    )
    reads(context)
    assert seen == sizes
    features = reads in (herding, reference, folds, refit)
    assert len(entered) == (len(sizes) if features else 0)
