"""Round 2, against a loop over the whole network of which only the task's rows are trained."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch.func import functional_call

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.learner.deploy import deploy
from clbench.methods.base import Context
from clbench.methods.head_refit import HeadRefit
from clbench.methods.lora import LoRA
from clbench.methods.wise_ft import WiSEFT
from clbench.models import head_names
from clbench.models.anchors import Anchor, Anchors
from clbench.models.reference import plain_network
from clbench.models.settings import Probe
from clbench.seeding import generator
from clbench.streams import Task
from clbench.weights import snapshot

CLASSES = range(2, 5)
RULES = Probe(epochs=4, lr=0.2, momentum=0.8, weight_decay=0.01, batch_size=100)


@pytest.fixture(scope="module")
def network():
    """A network with BatchNorm whose running statistics are not those of any batch."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=6)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
    return model.train()


def make_context(model, augment=None, probe=RULES, task=1):
    torch.manual_seed(1)
    images = TensorImages(torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8))
    split = Split(images, torch.arange(0, 40, 2), torch.arange(20) % 3 + 2)
    rows = torch.zeros(6, dtype=torch.bool)
    anchor = Anchor(snapshot(model), rows)
    return Context(
        task=Task(task, "task", CLASSES, split, split, split),
        model=model,
        head=head_names(model),
        anchors=Anchors(anchor, anchor),
        total_steps=1,
        reader=Reader(Transform(32, (0.5,) * 3, (0.5,) * 3, augment or Augment())),
        losses=None,
        seed=3,
        batch_size=10,
        probe=probe,
    )


def tuned(model):
    """What training could have made of the weights."""
    torch.manual_seed(2)
    return {
        name: x + 0.02 * torch.randn_like(x) if x.is_floating_point() and "var" not in name else x
        for name, x in snapshot(model).items()
    }


def obvious(theta, context, rules):
    """Every batch through the whole network in evaluation mode; SGD on the task's rows."""
    network = copy.deepcopy(context.model).eval()
    train, rows = context.task.train, slice(CLASSES.start, CLASSES.stop)
    trained = [theta[name][rows].clone().requires_grad_() for name in context.head]
    optimizer = torch.optim.SGD(
        trained, rules.lr, momentum=rules.momentum, weight_decay=rules.weight_decay
    )
    pixels = train.images.take(train.index)
    for epoch in range(rules.epochs):
        inputs = context.transform.test(pixels)
        if rules.augment:
            draws = torch.rand(len(train), DRAWS, generator=generator(context.seed, 1, 1 + epoch))
            inputs = context.transform.train(pixels, draws)
        state = dict(theta)
        for name, own in zip(context.head, trained, strict=True):
            state[name] = theta[name].clone()
            state[name][rows] = own
        logits = functional_call(network, state, inputs)[:, rows]
        optimizer.zero_grad()
        F.cross_entropy(logits, train.labels - CLASSES.start).backward()
        optimizer.step()
    return [x.detach() for x in trained]


@pytest.mark.parametrize("augment", [False, True])
def test_the_heads_rows_are_those_of_a_plain_loop(network, augment):
    rules = RULES.model_copy(update={"augment": augment})
    changes = Augment(flip=True, crop="pad", jitter=0.3)
    context, theta = make_context(network, changes, rules), tuned(network)
    before = {name: x.clone() for name, x in theta.items()}
    method = HeadRefit()
    refit = method.deploy(theta, context)
    for name, wanted in zip(context.head, obvious(theta, context, rules), strict=True):
        torch.testing.assert_close(refit[name][2:5], wanted, rtol=1e-4, atol=1e-5)
        assert not torch.equal(refit[name][2:5], theta[name][2:5])
        others = [0, 1, 5]
        assert torch.equal(refit[name][others], theta[name][others])
    # Nothing else moves: not the trunk, its statistics, what was given, or the network.
    trunk = [name for name in theta if name not in context.head]
    assert all(refit[name] is theta[name] for name in trunk)
    assert all(torch.equal(theta[name], x) for name, x in before.items())
    assert all(torch.equal(x, context.anchors.previous.state[n]) for n, x in
               network.state_dict().items())  # fmt: skip
    assert network.training
    assert method.activity()["active"] == 1


def test_a_head_from_random_numbers_forgets_the_tuned_one(network):
    context, theta = make_context(network), tuned(network)
    other = theta | {name: theta[name] + 1 for name in context.head}
    fresh = [HeadRefit(start_from="random").deploy(x, context) for x in (theta, other)]
    kept = [HeadRefit().deploy(x, context) for x in (theta, other)]
    for name in context.head:
        assert torch.equal(fresh[0][name][2:5], fresh[1][name][2:5])
        assert not torch.equal(kept[0][name][2:5], kept[1][name][2:5])


def test_settings_of_its_own_come_before_those_of_the_run(network):
    theta = tuned(network)
    own = HeadRefit(probe=RULES).deploy(theta, make_context(network, probe=Probe()))
    run = HeadRefit().deploy(theta, make_context(network, probe=RULES))
    default = HeadRefit().deploy(theta, make_context(network, probe=Probe()))
    name = head_names(network)[0]
    assert torch.equal(own[name], run[name])
    assert not torch.equal(own[name], default[name])


def test_its_place_among_the_methods_says_on_which_trunk(network):
    context, theta = make_context(network), tuned(network)
    last = deploy([WiSEFT(alpha=0.5), HeadRefit()], theta, context).shown
    average = WiSEFT(alpha=0.5).deploy(theta, context)
    wanted = HeadRefit().deploy(average, context)
    first = deploy([HeadRefit(), WiSEFT(alpha=0.5)], theta, context).shown
    for name in theta:
        assert torch.equal(last[name], wanted[name])
        if name not in context.head:
            assert torch.equal(first[name], average[name])
    name = context.head[0]
    assert torch.equal(first[name], HeadRefit().deploy(theta, context)[name])
    assert not torch.equal(first[name], last[name])


def test_what_it_did_is_said_of_the_weights_that_are_shown(network):
    """Without carry_on, the tuned weights are refit too, after the average."""
    context, theta, method = make_context(network), tuned(network), HeadRefit()
    weights = deploy([WiSEFT(alpha=0.5), method], theta, context)
    name = context.head[0]
    assert not torch.equal(weights.carried[name], weights.shown[name])
    alone = HeadRefit()
    alone.deploy(WiSEFT(alpha=0.5).deploy(theta, context), context)
    assert method.activity() == alone.activity()


def test_a_copy_without_the_factors_of_lora_computes_the_same(network):
    lora = LoRA(rank=2)
    changed = lora.surgery(network).eval()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.01)
    merged = lora.unwrap(snapshot(changed))
    plain = plain_network(changed, merged).eval()
    inputs = torch.randn(2, 3, 32, 32)
    assert plain.state_dict().keys() == network.state_dict().keys()
    torch.testing.assert_close(plain(inputs), changed(inputs), rtol=1e-4, atol=1e-5)
