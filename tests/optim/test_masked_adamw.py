import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from clbench.optim import BIAS_AND_NORM, MaskedAdamW, MoFO, draw_blocks, layers_of, top_mask
from clbench.optim.select import _top_mask_torch

REFERENCE = Path(__file__).parents[1] / "reference" / "mofo.npz"
SELECTS = ["momentum", "gradient", "random", "half_blocks"]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def slow_top_mask(scores, k):
    flat = scores.reshape(-1).double().abs().tolist()
    best = sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:k]
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[best] = True
    return mask.view(scores.shape)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5))


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        random = torch.Generator().manual_seed(step)
        loss = model(torch.randn(8, 3, 4, 4, generator=random)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Selection


@pytest.mark.parametrize("select", [top_mask, _top_mask_torch])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (13, 11), (4, 3, 3, 3)])
def test_selection_against_sorting(select, dtype, shape):
    torch.manual_seed(0)
    distinct, tied = torch.randn(shape, dtype=dtype), torch.randint(-2, 3, shape).to(dtype)
    for scores in (distinct, tied, torch.zeros(shape, dtype=dtype)):
        for k in range(1, scores.numel() + 1, 5):
            assert torch.equal(select(scores, k), slow_top_mask(scores, k))


def test_selection_of_a_large_tensor_with_many_ties():
    torch.manual_seed(0)
    scores = torch.randn(300_001).mul(50).round()
    mask = top_mask(scores, 45_000)
    assert torch.equal(mask, _top_mask_torch(scores, 45_000))
    assert mask.sum() == 45_000
    assert scores[mask].abs().min() >= scores[~mask].abs().max()


@pytest.mark.parametrize("select", [top_mask, _top_mask_torch])
def test_ties_go_by_index_whatever_the_memory_format(select):
    torch.manual_seed(0)
    plain = torch.randint(-2, 3, (4, 6, 3, 5)).float()
    last = plain.contiguous(memory_format=torch.channels_last)
    for scores in (last, plain.transpose(0, 3), plain[:, ::2], plain[1:, :, :, 2]):
        for k in (1, 17, 40, scores.numel() - 1):
            assert torch.equal(select(scores, k), slow_top_mask(scores, k))


@pytest.mark.parametrize("select", [top_mask, _top_mask_torch])
def test_nan_counts_as_largest(select):
    scores = torch.tensor([1.0, torch.inf, -torch.nan, 0.0, torch.nan])
    assert select(scores, 2).tolist() == [False, False, True, False, True]
    assert select(scores, 3).tolist() == [False, True, True, False, True]


def test_refuses_what_cannot_be_selected():
    with pytest.raises(ValueError, match=r"k must be in 1…3.*got 4"):
        top_mask(torch.zeros(3), 4)
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch\.int64"):
        top_mask(torch.arange(3), 1)


# Against the authors


def settings():
    return sorted({key.split("/")[0] for key in np.load(REFERENCE)})


@pytest.mark.parametrize("setting", settings())
@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}])
def test_equals_the_authors_optimiser(setting, how):
    data = np.load(REFERENCE)
    decay, fraction = map(float, setting.removeprefix("wd").split("_fraction"))
    names = [key.split("/")[2] for key in data if key.startswith(f"{setting}/param0/")]
    params = {n: nn.Parameter(torch.tensor(data[f"{setting}/param0/{n}"])) for n in names}
    optimizer = MoFO(
        params.items(),
        lr=0.01,
        weight_decay=decay,
        fraction=fraction,
        unfiltered=BIAS_AND_NORM,
        **how,
    )
    for step in range(12):
        for name, p in params.items():
            p.grad = torch.tensor(data[f"{setting}/grad{step}/{name}"])
        optimizer.step()
        for name, p in params.items():
            wanted = torch.tensor(data[f"{setting}/param{step + 1}/{name}"])
            torch.testing.assert_close(p.detach(), wanted, rtol=1e-5, atol=1e-7)


def test_reference_covers_weight_decay_and_the_full_fraction():
    assert len(settings()) == 3
    assert any(not setting.startswith("wd0.0") for setting in settings())


def minimise(optimizer_of, steps=5000):
    theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optimizer_of([theta])
    for _ in range(steps):
        optimizer.zero_grad()
        ((theta[0] - 1) ** 2 * (theta[1] - 1) ** 2).backward()
        optimizer.step()
    return theta.detach()


def test_two_variable_example_of_the_paper():
    adam = minimise(lambda params: AdamW(params, lr=0.01, weight_decay=0))
    torch.testing.assert_close(adam, torch.ones(2).double(), atol=0.02, rtol=0)
    mofo = minimise(lambda params: MoFO(params, lr=0.01, fraction=0.5))
    torch.testing.assert_close(mofo, torch.tensor([1.0, 0.0]).double(), atol=0.02, rtol=0)
    assert mofo[1] == 0


# Against AdamW, and a slow obvious implementation


@pytest.mark.parametrize("select", SELECTS)
@pytest.mark.parametrize("how", [{"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_full_fraction_is_adamw_bit_for_bit(select, how, decay):
    ours, theirs = network(), network()
    masked = MaskedAdamW(
        ours.parameters(), 0.01, weight_decay=decay, select=select, fraction=1.0, **how
    )
    train(ours, masked, 6)
    train(theirs, AdamW(theirs.parameters(), 0.01, weight_decay=decay, **how), 6)
    assert torch.equal(weights(ours), weights(theirs))
    assert masked.updated_share == 1


@pytest.mark.parametrize("select", ["momentum", "gradient"])
@pytest.mark.parametrize("decay", ["all", "selected"])
@pytest.mark.parametrize("how", [{"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("fraction", [0.01, 0.15, 0.5, 0.97])
def test_against_a_slow_implementation(select, decay, how, fraction):
    torch.manual_seed(0)
    shapes = [(9, 5), (4, 3, 2, 2), (3,), (1,), ()]
    params = [nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    slow = [p.detach().clone() for p in params]
    firsts, seconds = [[torch.zeros_like(p) for p in slow] for _ in range(2)]
    options = {"weight_decay": 0.1, "decay": decay, "select": select, "fraction": fraction}
    optimizer = MaskedAdamW(params, 0.05, (0.8, 0.9), 1e-6, **options, **how)
    for step in range(1, 8):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
        for p, q, m, v in zip(params, slow, firsts, seconds, strict=True):
            m.mul_(0.8).add_(0.2 * p.grad)
            v.mul_(0.9).add_(0.1 * p.grad**2)
            k = max(1, int(p.numel() * fraction))
            chosen = slow_top_mask(m if select == "momentum" else p.grad, k)
            decayed = q * (1 - 0.05 * 0.1)
            update = 0.05 * (m / (1 - 0.8**step)) / ((v / (1 - 0.9**step)).sqrt() + 1e-6)
            q.copy_(torch.where(chosen, decayed - update, decayed if decay == "all" else q))
            torch.testing.assert_close(p.detach(), q, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(optimizer.state[p]["exp_avg"], m, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], v, rtol=1e-12, atol=1e-12)
    total = sum(p.numel() for p in params)
    share = sum(max(1, int(p.numel() * fraction)) for p in params) / total
    assert optimizer.updated_share == pytest.approx(share)


@pytest.mark.parametrize("select", SELECTS)
def test_chosen_entries_move_as_in_adamw_and_the_others_not_at_all(select):
    """From one common state, a masked step is AdamW's step on the entries it touches."""
    for step in range(5):
        ours, theirs = network(), network()
        plain = AdamW(theirs.parameters(), 0.01, weight_decay=0, fused=True)
        masked = MaskedAdamW(ours.parameters(), 0.01, select=select, fraction=0.5, seed=step)
        start = weights(ours)
        train(theirs, plain, 1)
        train(ours, masked, 1)
        moved = weights(ours) != start
        assert torch.equal(weights(ours)[moved], weights(theirs)[moved])
        assert 0 < moved.float().mean() < 1


def test_random_selection_is_exact_in_number_even_and_fresh_each_step():
    p = nn.Parameter(torch.zeros(50, 4))
    optimizer = MaskedAdamW([p], lr=1.0, betas=(0.0, 0.0), select="random", fraction=0.25)
    counts = torch.zeros_like(p)
    before = p.detach().clone()
    drawn = set()
    for _ in range(400):
        p.grad = torch.ones_like(p)
        optimizer.step()
        moved = p.detach() != before
        assert moved.sum() == 50
        counts += moved
        drawn.add(tuple(moved.flatten().tolist()))
        before = p.detach().clone()
    assert len(drawn) == 400
    # Binomial with mean 100 and standard deviation 8.7.
    assert 60 < counts.min() < 100 < counts.max() < 140


def test_half_blocks_moves_half_of_the_tensors_of_each_layer():
    names = [
        f"blocks.{b}.{m}.{leaf}" for b in range(3) for m in "qkv" for leaf in ("weight", "bias")
    ]
    params = [(name, nn.Parameter(torch.zeros(3))) for name in names]
    optimizer = MaskedAdamW([*params, ("head.weight", nn.Parameter(torch.zeros(3)))], 0.1,
                            select="half_blocks", unfiltered=["head.*"])  # fmt: skip
    assert optimizer.param_groups[0]["fraction"] == 0.5
    patterns = set()
    for _ in range(20):
        before = [p.detach().clone() for _, p in params]
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.ones(3)
        optimizer.step()
        moved = [not torch.equal(p, old) for (_, p), old in zip(params, before, strict=True)]
        assert [sum(moved[i : i + 6]) for i in (0, 6, 12)] == [3, 3, 3]
        patterns.add(tuple(moved))
    assert len(patterns) > 15
    head = optimizer.param_groups[0]["params"][-1]
    torch.testing.assert_close(head.detach(), torch.full((3,), -2.0))
    # The moments of tensors that are not updated are kept up too.
    steps = {float(optimizer.state[p]["step"]) for _, p in params}
    assert steps == {20.0}


def test_half_blocks_without_names_is_one_layer():
    params = [nn.Parameter(torch.zeros(2)) for _ in range(8)]
    optimizer = MaskedAdamW(params, 0.1, select="half_blocks")
    for p in params:
        p.grad = torch.ones(2)
    optimizer.step()
    assert sum(bool(p.detach().any()) for p in params) == 4


def test_at_least_one_entry_is_updated():
    params = [nn.Parameter(torch.zeros(n)) for n in (1, 2, 5)]
    optimizer = MoFO(params, fraction=0.01)
    for p in params:
        p.grad = torch.arange(1.0, p.numel() + 1)
    optimizer.step()
    assert [int((p.detach() != 0).sum()) for p in params] == [1, 1, 1]
    assert all(p.detach()[-1] != 0 for p in params)


def test_tied_entries_do_not_exceed_the_share():
    p = nn.Parameter(torch.zeros(10))
    p.grad = torch.ones(10)
    MoFO([p], fraction=0.3).step()
    assert (p.detach() != 0).tolist() == [True] * 3 + [False] * 7


# As a torch optimiser


def test_calls_the_closure_once_and_returns_its_loss():
    p = nn.Parameter(torch.ones(4))
    optimizer = MoFO([p], lr=0.1, fraction=0.5)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 10
    assert calls == [True]
    torch.testing.assert_close(p.detach(), torch.tensor([1.0, 1.0, 0.9, 0.9]))


def test_each_group_has_its_own_settings():
    a, b, c = (nn.Parameter(torch.zeros(10)) for _ in range(3))
    own = [{}, {"fraction": 0.5, "lr": 1.0}, {"fraction": 1.0}]
    groups = [{"params": [p]} | settings for p, settings in zip((a, b, c), own, strict=True)]
    optimizer = MoFO(groups, lr=0.1, fraction=0.1)
    for p in (a, b, c):
        p.grad = torch.arange(1.0, 11)
    optimizer.step()
    assert [int((p.detach() != 0).sum()) for p in (a, b, c)] == [1, 5, 10]
    torch.testing.assert_close(b.detach()[-1], torch.tensor(-1.0))
    torch.testing.assert_close(a.detach()[-1], torch.tensor(-0.1))


def test_unfiltered_names_are_updated_in_full():
    model = network()
    start = copy.deepcopy(model)
    optimizer = MoFO(model.named_parameters(), 0.01, fraction=0.2, unfiltered=["*bias", "1.*"])
    train(model, optimizer, 1)
    for (name, p), old in zip(model.named_parameters(), start.parameters(), strict=True):
        moved = int((p != old).sum())
        whole = name.endswith("bias") or name.startswith("1.")
        # Batch normalisation takes the bias before it out of the loss; what is left is rounding.
        assert moved > 0.5 * p.numel() if whole else moved == int(p.numel() * 0.2), name


def test_parameters_without_gradients_stay_and_cost_no_state():
    a, b = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    optimizer = MoFO([a, b])
    a.grad = torch.ones(4)
    optimizer.step()
    assert not b.detach().any()
    assert b not in optimizer.state
    assert optimizer.all_entries == 4


@pytest.mark.parametrize("select", SELECTS)
@pytest.mark.parametrize("how", [{}, {"foreach": True}])
def test_a_resumed_run_goes_on_identically(select, how):
    def make(model):
        named = model.named_parameters()
        return MaskedAdamW(named, 0.01, select=select, seed=3, unfiltered=["3.bias"], **how)

    straight = network()
    train(straight, make(straight), 9)
    first = network()
    optimizer = make(first)
    train(first, optimizer, 4)
    file = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    second = network()
    resumed = make(second)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    train(second, resumed, 5, first=4)
    assert torch.equal(weights(second), weights(straight))


@pytest.mark.parametrize("select", ["random", "half_blocks"])
def test_random_choices_depend_on_the_seed_only(select):
    outcomes = []
    for seed, disturbance in ((0, 1), (0, 2), (1, 1)):
        model = network()
        optimizer = MaskedAdamW(model.parameters(), 0.01, select=select, fraction=0.5, seed=seed)
        torch.manual_seed(disturbance)
        train(model, optimizer, 3)
        outcomes.append(weights(model))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_state_dicts_go_to_and_fro_with_adamw():
    ours, theirs = network(), network()
    plain = AdamW(theirs.parameters(), 0.01, weight_decay=0, fused=True)
    train(theirs, plain, 3)
    ours.load_state_dict(theirs.state_dict())
    masked = MaskedAdamW(ours.parameters(), fraction=1.0)
    masked.load_state_dict(copy.deepcopy(plain.state_dict()))
    train(theirs, plain, 2, first=3)
    train(ours, masked, 2, first=3)
    assert torch.equal(weights(ours), weights(theirs))
    plain.load_state_dict(copy.deepcopy(masked.state_dict()))
    train(theirs, plain, 1)
    train(ours, masked, 1)
    assert torch.equal(weights(ours), weights(theirs))


def test_a_state_of_adamw_leaves_the_fractions_of_groups_alone():
    a, b = nn.Parameter(torch.zeros(10)), nn.Parameter(torch.zeros(10))
    masked = MoFO([{"params": [a], "fraction": 0.2}, {"params": [b], "fraction": 0.4}])
    masked.load_state_dict(AdamW([{"params": [a], "lr": 7.0}, {"params": [b]}]).state_dict())
    assert [group["fraction"] for group in masked.param_groups] == [0.2, 0.4]
    assert [group["lr"] for group in masked.param_groups] == [7.0, 0.001]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        masked.load_state_dict(AdamW([a, b]).state_dict())


def test_can_be_copied():
    model = network()
    optimizer = MoFO(model.parameters(), 0.01)
    train(model, optimizer, 2)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    train(model, optimizer, 2, first=2)
    train(twin, twin_optimizer, 2, first=2)
    assert torch.equal(weights(twin), weights(model))


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"foreach": False}])
def test_memory_formats_make_no_difference(how):
    """torch's fused kernels silently go wrong where weight and gradient differ in layout."""
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    outcomes = []
    for p_format in (torch.contiguous_format, torch.channels_last):
        for g_format in (torch.contiguous_format, torch.channels_last):
            p = nn.Parameter(start.clone(memory_format=p_format))
            optimizer = MoFO([p], 0.1, weight_decay=0.1, **how)
            for _ in range(3):
                p.grad = gradient.contiguous(memory_format=g_format)
                optimizer.step()
            p.data = p.data.contiguous(memory_format=g_format)
            optimizer.step()
            outcomes.append(p.detach())
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome, outcomes[0], rtol=1e-6, atol=1e-7)


def test_many_tensors_are_stepped_in_several_batches(monkeypatch):
    together, apart = network(), network()
    for p in (*together.parameters(), *apart.parameters()):
        assert p.numel() < 1 << 21
    train(together, MoFO(together.parameters(), 0.01, foreach=True), 4)
    monkeypatch.setattr("clbench.optim.masked._BATCH", 100)
    train(apart, MoFO(apart.parameters(), 0.01, foreach=True), 4)
    assert torch.equal(weights(together), weights(apart))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_float_types(dtype):
    p = nn.Parameter(torch.zeros(20, dtype=dtype))
    p.grad = torch.arange(1, 21).to(dtype)
    MoFO([p], lr=0.5, fraction=0.25).step()
    torch.testing.assert_close(
        p.detach()[15:], torch.full((5,), -0.5, dtype=dtype), rtol=1e-2, atol=0
    )
    assert not p.detach()[:15].any()


def test_schedulers_drive_it():
    p = nn.Parameter(torch.zeros(2))
    optimizer = MoFO([p], lr=1.0, betas=(0.0, 0.0), fraction=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        p.grad = torch.tensor([1.0, 2.0])
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(p.detach(), torch.tensor([0.0, -1.75]))


def test_a_gradient_scaler_skips_steps_that_overflow():
    p = nn.Parameter(torch.zeros(4))
    optimizer = MoFO([p], lr=0.1, fraction=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for bad in (False, True, False):
        optimizer.zero_grad()
        slopes = torch.tensor([1.0, 2.0, 3.0, torch.inf if bad else 4.0])
        scaler.scale((p * slopes).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert float(optimizer.state[p]["step"]) == 2
    torch.testing.assert_close(p.detach(), torch.tensor([0.0, 0.0, -0.2, -0.2]))
    # The moments are of unscaled gradients.
    torch.testing.assert_close(optimizer.state[p]["exp_avg"][0], torch.tensor(0.19))


def test_empty_tensors_are_passed_over():
    p = nn.Parameter(torch.zeros(0, 3))
    p.grad = torch.zeros(0, 3)
    MoFO([p]).step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 1.3}, r"fraction must be in \(0, 1\], got 1\.3"),
        ({"fraction": 0.0}, r"fraction must be in \(0, 1\], got 0\.0"),
        ({"select": "momenta"}, r"select must be one of momentum, .*got 'momenta'"),
        ({"decay": "some"}, r"decay must be one of all, selected, got 'some'"),
        ({"lr": -1.0}, r"lr must be at least 0, got -1"),
        ({"eps": float("nan")}, r"eps must be at least 0"),
        ({"weight_decay": -0.1}, r"weight_decay must be at least 0"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\)"),
        ({"seed": -1}, r"seed must be at least 0"),
        ({"unfiltered": ["*bias"]}, r"pass model\.named_parameters\(\)"),
        ({"unfiltered": "*bias"}, r"write \['\*bias'\]"),
        ({"foreach": True, "fused": True}, r"foreach and fused cannot both be True"),
    ],
)
def test_refuses_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedAdamW([nn.Parameter(torch.zeros(3))], **options)


def test_a_refused_group_is_not_added():
    optimizer = MoFO([nn.Parameter(torch.zeros(3))])
    extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="got 2"):
        optimizer.add_param_group({"params": [extra], "fraction": 2})
    optimizer.add_param_group({"params": [extra], "fraction": 0.5})
    assert [group["fraction"] for group in optimizer.param_groups] == [0.15, 0.5]


def test_refuses_complex_and_sparse():
    with pytest.raises(ValueError, match="view_as_real"):
        MoFO([nn.Parameter(torch.zeros(3, dtype=torch.complex64))])
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = MoFO(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()


# Parameter blocks


def test_layers_of_timm_networks():
    timm = pytest.importorskip("timm")

    def counts(backbone):
        names = [name for name, _ in timm.create_model(backbone).named_parameters()]
        layers = layers_of(names)
        return {layer: layers.count(layer) for layer in layers}

    resnet = {f"layer{s}.{b}": 9 if s > 1 and b == 0 else 6 for s in range(1, 5) for b in range(2)}
    assert counts("resnet18") == {"conv1": 1, "bn1": 2, **resnet, "fc": 2}
    vit = {f"blocks.{b}": 12 for b in range(12)}
    stem = {"": 2, "patch_embed.proj": 2}
    assert counts("vit_tiny_patch16_224") == {**stem, **vit, "norm": 2, "head": 2}


def test_blocks_are_drawn_half_of_each_layer():
    names = [f"blocks.{b}.m{i}.weight" for b in range(200) for i in range(5)]
    drawn = draw_blocks(names, 0.5, 7)
    counts = [sum(f"blocks.{b}.m{i}.weight" in drawn for i in range(5)) for b in range(200)]
    assert set(counts) == {2, 3}  # rounded up or down
    assert 0.4 < counts.count(3) / 200 < 0.6
    assert draw_blocks(names, 0.5, 7) == drawn
    assert draw_blocks(names, 0.5, 8) != drawn
    assert draw_blocks(names, 1.0, 7) == set(names)
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got 0"):
        draw_blocks(names, 0, 7)
