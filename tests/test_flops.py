"""FLOPs of training: by hand where that can be done, whatever the methods are, and for nothing."""

import copy

import pytest
import records
import timm
import torch
from report.made_up import run_folder
from torch import nn
from torch.nn.utils import parametrize

import clbench
from clbench.methods.ewc import fisher_diagonal
from clbench.methods.low_rank import LowRank
from clbench.methods.mas import sensitivity
from clbench.recipe.recipe import parse
from clbench.report.boards import leaderboard
from clbench.report.compare import compare
from clbench.runner.flops import Flops
from clbench.runner.parts import Passes
from clbench.runner.smallest import Smallest
from clbench.text.numbers import flops


class Attention(nn.Module):
    """A linear layer, attention without weights, a mean and a head."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm1d(16)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        x = self.norm(self.embed(images).flatten(2).transpose(1, 2))
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x).mean(1))


#: Of an image of 16 pixels: a convolution to 16 places, scores and values of attention, the head.
EMBED, ATTEND, HEAD = 2 * 16 * 8 * 48, 2 * 2 * 16 * 16 * 8, 2 * 8 * 5


def counted(model):
    found = Flops(Passes(model), 16)
    found.look(model)
    return found


def test_an_image_takes_what_it_does_by_hand():
    model = Attention()
    before = copy.deepcopy(model.state_dict())
    found = counted(model)
    both, forward = found._now
    assert forward == EMBED + ATTEND + HEAD
    # Backwards each product takes two, but the first, whose input needs no gradient.
    assert both - forward == EMBED + 2 * ATTEND + 2 * HEAD
    assert (found.passes.trained, found.passes.passed) == (0, 0)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    parts = {"fit": {"trained": 10, "passed": 3}, "test": {"trained": 0, "passed": 99}}
    assert found.spent(parts, torch.device("cpu")) == 10 * both + 3 * forward


def test_groups_of_a_convolution_count_once():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8))
    first, second = 2 * 256 * 8 * 3, 2 * 256 * 8 * 9
    assert counted(model)._now == (2 * first + 3 * second, first + second)


def test_what_a_pass_takes_whatever_its_images_is_none_of_theirs():
    model = Attention().requires_grad_(False)
    update = LowRank(model.head.weight.detach(), 4, 1.0)
    parametrize.register_parametrization(model.head, "weight", update)
    both, forward = counted(model)._now
    assert forward == EMBED + ATTEND + HEAD
    assert both == forward + HEAD  # to the weight, and from there to the factors, once a pass


def test_a_network_that_looks_at_its_numbers_is_counted_with_numbers(capsys):
    model = Attention()
    model.embed.register_forward_hook(
        lambda _, inputs, outputs: outputs * bool(outputs.isfinite().all())
    )
    assert counted(model)._now == counted(Attention())._now
    assert not capsys.readouterr().out


def test_what_is_frozen_takes_no_way_back():
    model = Attention()
    for part in (model.embed, model.norm):
        part.requires_grad_(False)
    found = counted(model)
    assert found._now == (EMBED + ATTEND + 2 * HEAD, EMBED + ATTEND + HEAD)
    model.head.requires_grad_(False)
    found.look(model)
    assert found._now[0] == found._now[1]
    assert len(found._known) == 2


def test_what_cannot_be_counted_is_said_once_and_costs_nothing(capsys):
    model = Attention()
    model.embed.register_forward_pre_hook(lambda *_: 1 / 0)
    found = counted(model)
    found.look(model)
    assert found.spent({}, torch.device("cpu")) is None
    assert capsys.readouterr().out == "Note: FLOPs are not counted (division by zero).\n"


def test_a_run_counts_the_passes_of_its_methods(recipe, tmp_path, no_pictures, capsys):
    found = {}
    for name, methods in {"plain": {}, "lwf": {"lwf": {}}, "still": {"linear_probe": {}}}.items():
        changes = {"steps": 2, "methods": methods, "eval_every": 1}
        record = clbench.run(recipe | changes, tmp_path / name)
        found[name] = [event.flops for event in record.tasks]
        assert record.summary()["cost"]["flops"] == sum(found[name])
    image = record_of_image(recipe)
    assert found["plain"] == [2 * 32 * image[0]] * 3
    # LwF asks the network before about every image from the second task on.
    assert found["lwf"] == [2 * 32 * image[0]] + [2 * 32 * (image[0] + image[1])] * 2
    assert all(one < few for one, few in zip(found["still"], found["plain"], strict=True))


@pytest.mark.parametrize("method", ["mas", "ewc"])
def test_a_run_counts_the_way_back_of_each_sample(recipe, tmp_path, no_pictures, method):
    changes = {"steps": 2, "methods": {method: {"samples": 40}}}
    record = clbench.run(recipe | changes, tmp_path / method)
    both, _ = record_of_image(recipe)
    for event in record.tasks:
        finish = event.parts["finish"]
        # Two routes are compared on two images, of which each takes both.
        assert (finish.trained, finish.passed) == (40 + 4, 0)
        assert event.flops == (2 * 32 + 40 + 4) * both


class Scale(nn.Linear):
    """A layer of its own kind: no rule is known for it."""


class Twice(nn.Module):
    """Uses a layer twice, so that gradients of single samples take the functional route."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = Scale(12, 12), nn.Linear(12, 5)

    def forward(self, images):
        return self.head(self.scale(self.scale(images.flatten(1)).tanh()))


def tiny(name):
    return lambda: timm.create_model(name, num_classes=5)


#: By network: side of its images; passes of the two images on which routes are compared; routes
#: that an image takes; how often the counted layer is in a pass.
ROUTES = {
    "conv": (tiny("tiny_cnn"), 16, 2, 1, 1),
    "position embeddings": (tiny("tiny_vit"), 32, 3, 1, 1),
    "functional": (Twice, 2, 2, 2, 2),
}


@pytest.mark.parametrize("kind", ROUTES)
def test_frozen_copies_that_are_differentiated_count_as_trained(kind):
    make, side, compared, routes, often = ROUTES[kind]
    model = make()
    passes = Passes(model)
    images, labels = torch.rand(70, 3, side, side), torch.arange(70) % 5
    for of in (
        lambda: sensitivity(model, [images]),
        lambda: fisher_diagonal(model, [(images, labels)]),
    ):
        passes.trained = 0
        of()
        assert (passes.trained, passes.passed) == (often * (2 * compared + routes * 70), 0)


def record_of_image(recipe):
    """FLOPs of an image of the tiny network, on its way forwards and back, and forwards."""
    model = timm.create_model("tiny_cnn", num_classes=6, **recipe["model"]["options"])
    found = Flops(Passes(model), recipe["images"]["size"])
    found.look(model)
    return found._now


@pytest.mark.parametrize("told", [[1e15, 2e15], [1e15, None]])
def test_reports_have_it_where_all_of_it_is_known(tmp_path, told):
    folder = run_folder(tmp_path)
    records.edit(
        folder, lambda e: e.update(flops=told[e["task"]]) if e["event"] == "task" else None
    )
    (section,) = compare([folder]).sections
    table = leaderboard(section, "task_incremental")
    shown = dict(zip([head.text for head in table.heads], table.body[0], strict=True))
    assert ("FLOPs" in shown) == (None not in told)
    if None not in told:
        assert shown["FLOPs"].text == flops(3e15) == "3 PFLOPs"


def test_the_smallest_batch_is_tried_once_and_counted_for_every_task(recipe):
    values = parse(recipe)
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    passes, looks = Passes(model), []
    model.register_forward_pre_hook(lambda *_: looks.append(1))
    known = Smallest(passes)
    head = ("3.weight", "3.bias")
    assert [known.of(values, model, head) for _ in range(3)] == [2, 2, 2]
    assert (len(looks), passes.passed) == (1, 3)
    plain = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Identity(), nn.Flatten(), nn.Linear(4, 2))
    assert known.of(values, plain, head) == 1
    larger = parse(recipe | {"images": {"size": 16}})
    bigger = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    assert known.of(larger, bigger, head) == 1
