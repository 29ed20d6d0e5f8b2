"""SD-LoRA: three tasks by the paper's equation, written out, and what a run keeps."""

from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.low_rank import targeted
from clbench.methods.sd_lora import SDLoRA, with_direction
from clbench.models import tiny  # noqa: F401  (registers the tiny backbones)
from clbench.recipe.recipe import parse
from clbench.weights import snapshot


class Net(nn.Module):
    """Two linear layers and a head."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, 2)

    def get_classifier(self):
        return self.head

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


def loss(weights, x, y):
    """Of the network with other weights of its two layers."""
    (w1, b1), (w2, b2) = weights
    return ((torch.tanh(x @ w1.T + b1) @ w2.T + b2) - y).square().mean()


def by_the_equation(w0, learned, down, up):
    """W_0 + Σ α_k·A_kB_k/‖A_kB_k‖_F + A_tB_t."""
    weight = w0
    for alpha, b, a in learned:
        weight = weight + alpha * (b @ a) / (b @ a).norm()
    return weight + up @ down


@pytest.mark.parametrize("ranks", [(2, 2, 2), (3, 1, 2)])
def test_three_tasks_are_those_of_the_papers_equation(ranks):
    torch.manual_seed(0)
    model = Net().double()
    first = snapshot(model)
    state, slow = {}, {"one": [], "two": []}  # of each layer: α, B, A of every task
    for task, rank in enumerate(ranks):
        x, y = torch.randn(8, 5).double(), torch.randn(8, 4).double()
        method = SDLoRA(rank=rank)
        method.load_state_dict(state)
        changed = method.surgery(model)
        method.start(SimpleNamespace(head=("head.weight", "head.bias")))
        trained = [
            p for n, p in changed.named_parameters() if method.trainable(n) and "head" not in n
        ]
        new = {
            name: [
                p.detach().clone().requires_grad_()
                for p in (changed.get_submodule(name).parametrizations.weight[0].A,
                          changed.get_submodule(name).parametrizations.weight[0].B)
            ]
            for name in slow
        }  # fmt: skip
        assert len(trained) == 2 * (2 + (task > 0))
        optimizer = torch.optim.SGD(trained, 0.3, momentum=0.5)
        alphas = [alpha for learned in slow.values() for alpha, _, _ in learned]
        by_hand = torch.optim.SGD([*alphas, *new["one"], *new["two"]], 0.3, momentum=0.5)
        for _ in range(6):
            optimizer.zero_grad()
            (changed(x) - y).square().mean().backward()
            optimizer.step()
            by_hand.zero_grad()
            loss(
                [
                    (by_the_equation(first[f"{n}.weight"], slow[n], *new[n]), first[f"{n}.bias"])
                    for n in slow
                ],
                x,
                y,
            ).backward()
            by_hand.step()
        method.finish(None)
        model.load_state_dict(method.unwrap(snapshot(changed)))
        for name, learned in slow.items():
            wanted = by_the_equation(first[f"{name}.weight"], learned, *new[name])
            torch.testing.assert_close(
                model.get_parameter(f"{name}.weight").detach(), wanted.detach()
            )
            down, up = (p.detach() for p in new[name])
            learned.append(((up @ down).norm().clone().requires_grad_(), up, down))
            kept = method._kept[f"{name} "]
            torch.testing.assert_close(
                kept.magnitudes, torch.stack([a.detach() for a, _, _ in learned])
            )
            for k, (_, b, a) in enumerate(learned):
                mine = kept.up[:, kept.task == k] @ kept.down[kept.task == k]
                torch.testing.assert_close(mine, (b @ a) / (b @ a).norm())
        told = method.activity()
        assert told["directions"] == task + 1
        assert (told["magnitudes_moved"] > 1e-3) == (task > 0)
        state = method.state_dict()


def test_an_update_that_is_nothing_has_no_direction():
    down, up = torch.randn(2, 4), torch.randn(3, 2)
    kept = with_direction(None, down, up)
    assert with_direction(kept, down, torch.zeros(3, 2)) is kept
    assert with_direction(None, down, torch.zeros(3, 2)) is None


def test_queries_and_values_have_updates_of_their_own():
    torch.manual_seed(0)
    model = timm.create_model("tiny_vit", num_classes=3, depth=1, embed_dim=32, num_heads=2)
    method = SDLoRA(rank=2)
    for _ in range(2):
        before = snapshot(model)
        changed = method.surgery(model)
        with torch.no_grad():
            for name, parameter in changed.named_parameters():
                if method.trainable(name):
                    parameter.add_(torch.randn_like(parameter))
        method.finish(None)
        merged = method.unwrap(snapshot(changed))
        model.load_state_dict(merged)
    moved = (merged["blocks.0.attn.qkv.weight"] - before["blocks.0.attn.qkv.weight"]).detach()
    q, k, v = moved.split(32)
    assert not k.any()
    for part, letter in ((q, "q"), (v, "v")):
        assert torch.linalg.matrix_rank(part) == 4  # a new direction, and along the old one
        kept = method._kept[f"blocks.0.attn.qkv {letter}"]
        assert (kept.up.shape, kept.down.shape) == ((32, 4), (4, 32))
    assert merged.keys() == before.keys()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiny_vit", {"depth": 1}),
        ("beit_base_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 2}),
        ("eva02_tiny_patch14_224", {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": 28,
                                    "qkv_fused": True}),
        ("swin_tiny_patch4_window7_224", {"depths": (1,), "embed_dim": 24, "num_heads": (2,)}),
    ],
)  # fmt: skip
def test_the_last_third_of_a_fused_layer_are_values(name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **options).eval()
    ((layer, parts),) = targeted(model, (), "qkv", "sd_lora").items()
    attention = model.get_submodule(layer.rpartition(".")[0])
    outputs = []
    attention.register_forward_hook(lambda *given: outputs.append(given[2]))
    images = torch.randn(2, 3, *model.patch_embed.img_size)
    with torch.no_grad():
        attention.qkv.weight.normal_()
        model(images)
        for bias in (attention.qkv.bias, getattr(attention, "v_bias", None)):
            if bias is not None:
                bias.zero_()
        attention.qkv.weight[parts["v"]] = 0
        model(images)
    # Without values attention has the same to say of every token of every image.
    before, after = (found.flatten(0, -2).std(0).max() for found in outputs)
    assert before > 1e-3
    assert after < 1e-6


def test_a_run_keeps_directions_and_goes_along_them(recipe, tmp_path, no_pictures):
    less = {"methods": {"sd_lora": {"rank": 2}}}
    recipe |= {"methods": {"sd_lora": {"rank": 3}}, "per_task": {"6, 7": less}}
    record = clbench.run(recipe, tmp_path / "run")
    told = [event.methods["sd_lora"] for event in record.tasks]
    assert [one["directions"] for one in told] == [1, 2, 3]
    assert told[0]["magnitudes_moved"] == 0 < told[1]["magnitudes_moved"]
    assert all(one["active"] and 0 < one["scope"] < 1 for one in told)
    kept = [event.footprint["sd_lora"].stored_bytes for event in record.tasks]
    # Of three layers: A, B and the number of each rank, and a magnitude.
    sizes = [(8, 27), (16, 72), (16, 144)]
    wanted = [sum(4 * r * (a + b) + 8 * r + 4 for a, b in sizes) for r in (3, 2, 3)]
    assert kept == [sum(wanted[: n + 1]) for n in range(3)]


def test_full_ranks_and_magnitudes_leave_no_scope(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 10}
    methods = {"sd_lora": {"rank": 10_000}}
    record = clbench.run(recipe | {"steps": 2, "methods": methods}, tmp_path / "run")
    assert [event.methods["sd_lora"]["scope"] for event in record.tasks] == [0, 0]


@pytest.mark.parametrize(
    "other", ["task_arithmetic", "ties", "multitask", "lora", "inflora", "sfa"]
)
def test_what_it_does_not_go_with(recipe, other):
    with pytest.raises(ClbenchError, match=r"do not go together|both") as caught:
        parse(recipe | {"methods": {"sd_lora": {}, other: {}}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["ewc", "l2", "wise_ft", "mas", "magmax"])
def test_what_it_goes_with(recipe, other):
    parse(recipe | {"methods": {"sd_lora": {}, other: {}}})
