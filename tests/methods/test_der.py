"""DER and DER++: the authors' numbers, the reservoir, and what a run remembers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import look
from torch import nn

import clbench
from clbench.data.batches import Batch, Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.methods.der import DERpp
from clbench.methods.replay import reservoir
from clbench.models.loss import ClassLoss
from clbench.seeding import generator

PEERS = np.load(Path(__file__).parents[1] / "reference" / "distillation.npz")


def peer(name):
    return torch.from_numpy(PEERS[f"der/{name}"])


class Replaying(DERpp):
    """Given the replayed batches' logits, in place of a network that makes them."""

    _given: list = []
    _share: float = 1.0

    def _replayed(self, forward, key):
        return torch.arange(6), self._given[key - 1], self._share


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.5), (0.1, 1.0), (0.3, 0.0), (0.1, 0.0)])
def test_loss_and_gradients_are_the_authors(alpha, beta):
    logits, first, second = (
        peer(name).clone().requires_grad_()
        for name in ("logits", "replayed_logits_1", "replayed_logits_2")
    )
    method = Replaying(alpha=alpha, beta=beta)
    method._given = [first, second]
    method._index = torch.arange(6)
    method._logits, method._labels = peer("stored_logits"), peer("stored_labels_2")
    cross_entropy = lambda z, y: F.cross_entropy(z, y, reduction="none")  # noqa: E731
    method._context = SimpleNamespace(losses=cross_entropy)
    batch = SimpleNamespace(part=1.0)
    forward = SimpleNamespace(step=1, logits_BC=logits, batch=batch)
    loss = F.cross_entropy(logits, peer("labels")) + method.penalty(forward)
    loss.backward()
    name, program = (
        (f"alpha{alpha:g}_beta{beta:g}", "derpp") if beta else (f"alpha{alpha:g}", "der")
    )
    assert float(loss.detach()) == pytest.approx(float(peer(f"{name}/{program}_loss")))
    for tensor, what in ((logits, "logits"), (first, "replayed_1"), (second, "replayed_2")):
        if tensor.grad is not None:
            theirs = peer(f"{name}/{program}_gradient_{what}")
            torch.testing.assert_close(tensor.grad, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fields", [{"alpha": 0.3, "beta": 0.0}, {"alpha": 0.0, "beta": 0.5}])
def test_a_process_and_a_batch_count_by_their_parts(fields):
    """Each of several devices by its share of the samples, of accumulated batches each by its."""

    def penalty(share, part):
        method = Replaying(**fields)
        method._given = [peer("replayed_logits_1"), peer("replayed_logits_2")]
        method._index = torch.arange(6)
        method._logits, method._labels = peer("stored_logits"), peer("stored_labels_2")
        cross_entropy = lambda z, y: F.cross_entropy(z, y, reduction="none")  # noqa: E731
        method._context = SimpleNamespace(losses=cross_entropy)
        method._share = share
        batch = SimpleNamespace(part=part)
        return method.penalty(SimpleNamespace(step=1, logits_BC=peer("logits"), batch=batch))

    whole = penalty(1.0, 1.0)
    assert whole > 0
    for share, part in ((0.5, 1.0), (1.0, 1 / 3), (0.5, 1 / 3)):
        torch.testing.assert_close(penalty(share, part), share * part * whole)


def test_all_rows_may_move():
    about = context()
    assert DERpp().rows(about).all()
    assert DERpp(alpha=0, beta=0).rows(about) is None


def test_a_reservoir_keeps_every_sample_as_likely():
    hits = torch.zeros(40)
    for trial in range(600):
        kept, random = torch.full((10,), -1), generator(trial)
        for start in range(0, 40, 8):
            for number, place in enumerate(reservoir(10, start, 8, random).tolist(), start):
                if place >= 0:
                    kept[place] = number
        hits[kept] += 1
    assert len(kept.unique()) == 10
    torch.testing.assert_close(hits / 600, torch.full((40,), 0.25), rtol=0.4, atol=0)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, inputs):
        return self.fc(inputs.flatten(1))


def context(seed=0):
    pixels = torch.randint(256, (30, 3, 2, 2), dtype=torch.uint8, generator=generator(0))
    labels = torch.arange(30) % 4
    split = Split(TensorImages(pixels), torch.arange(30), labels)
    owner = torch.tensor([0, 0, 1, 1])
    return SimpleNamespace(
        task=SimpleNamespace(train=split),
        reader=Reader(Transform(2, (0.5,) * 3, (0.5,) * 3, Augment())),
        losses=ClassLoss("all", labels, owner, torch.ones(4) > 0),
        device=torch.device("cpu"),
        batch_size=8,
        seed=seed,
    )


def seen(method, about, model, steps):
    split = about.task.train
    for step in range(steps):
        index = torch.arange(8 * step, 8 * step + 8) % 30
        draws = torch.zeros(8, 1)
        batch = Batch(split.images.take(index), split.labels[index], index, draws, 1.0)
        inputs = about.reader.transform.test(batch.images)
        logits = model(inputs).detach()
        forward = look(model, batch, inputs)
        forward.logits_BC = logits
        yield method.penalty(forward), logits
        method.observe(forward)


def test_stored_logits_are_those_of_training_and_survive(tmp_path):
    torch.manual_seed(0)
    method, about, model = DERpp(size=12), context(), Tiny()
    method.start(about)
    penalties = [penalty for penalty, _ in seen(method, about, model, 3)]
    assert penalties[0] is None  # nothing is stored yet
    assert float(penalties[2].detach()) > 0
    assert method.stored_samples() == 12
    assert torch.equal(method._labels, about.task.train.labels[method._index])
    split = about.task.train
    again = model(about.reader.transform.test(split.images.take(method._index)))
    torch.testing.assert_close(method._logits, again.detach())
    torch.save(method.state_dict(), tmp_path / "state.pt")
    other = DERpp(size=12)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    both = []
    for one in (method, other):
        one.start(context(seed=1))
        both.append([penalty.detach() for penalty, _ in seen(one, context(), model, 3)])
    assert both[0] == both[1]


def test_der_pp_remembers(recipe, tmp_path, no_pictures):
    recipe |= {"train_logits": "all", "steps": 12}
    plain = clbench.run(recipe, tmp_path / "plain").summary()
    name = "class_incremental"
    for fields in ({"size": 60}, {"size": 60, "alpha": 2.0, "beta": 0.0}):
        record = clbench.run(recipe | {"methods": {"der_pp": fields}}, tmp_path / f"{len(fields)}")
        ours = record.summary()
        assert ours[name]["overall_performance"] > plain[name]["overall_performance"] + 0.05
        assert not ours["footprint"]["data_oblivious"]
        assert record.tasks[-1].footprint["der_pp"].stored_samples == 60
