from types import SimpleNamespace

import pytest
import torch

from clbench.methods.wise_ft import WiSEFT, interpolate
from clbench.models.anchors import Anchor, Anchors


def state(seed):
    random = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, generator=random),
        "bn.running_var": torch.rand(4, generator=random),
        "bn.num_batches_tracked": torch.tensor(seed),
        "fc.weight": torch.randn(5, 4, generator=random),
    }


def context(learned_pretrained, learned_previous, task=1):
    return SimpleNamespace(
        task=SimpleNamespace(index=task),
        head=("fc.weight",),
        anchors=Anchors(
            Anchor(state(1), torch.tensor(learned_pretrained)),
            Anchor(state(2), torch.tensor(learned_previous)),
        ),
    )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_closed_form(alpha):
    pretrained, tuned = state(1), state(3)
    merged = interpolate(pretrained, tuned, alpha)
    for name in ("conv.weight", "bn.running_var", "fc.weight"):
        expected = alpha * tuned[name].double() + (1 - alpha) * pretrained[name].double()
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            interpolate(pretrained[name], tuned[name], alpha), merged[name], rtol=0, atol=0
        )
    assert merged["bn.num_batches_tracked"] == 3


def test_exact_at_the_ends():
    pretrained, tuned = state(1), state(3)
    assert torch.equal(interpolate(pretrained, tuned, 1.0)["conv.weight"], tuned["conv.weight"])
    assert torch.equal(
        interpolate(pretrained, tuned, 0.0)["conv.weight"], pretrained["conv.weight"]
    )


def test_arguments_are_left_as_they_are():
    pretrained, tuned = state(1), state(3)
    interpolate(pretrained, tuned, 1.0)["conv.weight"].zero_()
    assert torch.equal(tuned["conv.weight"], state(3)["conv.weight"])


@pytest.mark.parametrize("alpha", [-0.1, 1.3, float("nan")])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got"):
        interpolate(torch.zeros(1), torch.ones(1), alpha)


@pytest.mark.parametrize(("anchor", "seed"), [("pretrained", 1), ("previous", 2)])
def test_head_rows_the_anchor_never_learned_are_not_diluted(anchor, seed):
    method = WiSEFT(alpha=0.3, anchor=anchor)
    learned = [True, False, True, False, False]
    shown = method.deploy(state(3), context(learned, learned))
    fresh = ~torch.tensor(learned)
    assert torch.equal(shown["fc.weight"][fresh], state(3)["fc.weight"][fresh])
    mean = interpolate(state(seed), state(3), 0.3)
    assert torch.equal(shown["fc.weight"][~fresh], mean["fc.weight"][~fresh])
    assert torch.equal(shown["conv.weight"], mean["conv.weight"])
    assert method.activity()["active"] == 1


def test_the_distance_moved_is_over_the_weights_of_the_trunk():
    method, tuned = WiSEFT(alpha=0.5), state(3)
    method.deploy(tuned, context([True] * 5, [True] * 5))
    way = float((tuned["conv.weight"] - state(1)["conv.weight"]).norm())
    assert method.activity()["distance_moved"] == pytest.approx(way / 2)


def test_a_head_that_moves_alone_is_active():
    method, tuned = WiSEFT(alpha=0.5), state(1) | {"fc.weight": state(3)["fc.weight"]}
    method.deploy(tuned, context([True] * 5, [True] * 5))
    activity = method.activity()
    assert (activity["active"], activity["distance_moved"]) == (1, 0)


def test_alpha_1_is_plain_fine_tuning():
    method, tuned = WiSEFT(alpha=1), state(3)
    assert method.deploy(tuned, context([True] * 5, [True] * 5)) is tuned
    assert method.activity()["active"] == 0


def test_carries_only_where_told_to():
    assert not WiSEFT().carries
    assert WiSEFT(carry_on=True).carries


@pytest.mark.parametrize("anchor", ["pretrained", "previous"])
def test_the_first_task_is_averaged_with_what_was_there_before_it(anchor):
    """The pretrained weights were; a previous task was not."""
    rows, tuned = [True] * 5, state(3)
    changed = {
        settings.get("start_at"): WiSEFT(anchor=anchor, **settings).deploy(
            tuned, context(rows, rows, task=0)
        )
        is not tuned
        for settings in ({}, {"start_at": 1}, {"start_at": 2})
    }
    assert changed == {None: anchor == "pretrained", 1: True, 2: False}


@pytest.mark.parametrize(("anchor", "seed"), [("pretrained", 1), ("previous", 2)])
def test_new_rows_of_the_head_are_averaged_where_told_to(anchor, seed):
    learned = [True, False, True, False, False]
    method = WiSEFT(alpha=0.3, anchor=anchor, new_rows="average")
    shown = method.deploy(state(3), context(learned, learned))
    mean = interpolate(state(seed), state(3), 0.3)
    assert torch.equal(shown["fc.weight"], mean["fc.weight"])
    assert method.activity()["averaged_head_rows"] == 5
