from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from clbench.methods.merge import TIES, TaskArithmetic, task_arithmetic, ties
from clbench.models.anchors import Anchor, Anchors

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "merge.npz")
BASE = torch.from_numpy(REFERENCE["base"])
MODELS = list(torch.from_numpy(REFERENCE["models"]))


def close(actual, expected):
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0])
def test_task_arithmetic_of_the_reference(scale):
    close(task_arithmetic(BASE, MODELS, scale), REFERENCE[f"task_arithmetic/lambda{scale}"])


def test_weights_that_sum_to_one_are_the_mean_of_the_models():
    merged = task_arithmetic(BASE, MODELS, "mean")
    torch.testing.assert_close(merged, torch.stack(MODELS).mean(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(merged, task_arithmetic(BASE, MODELS, 1 / len(MODELS)))
    assert torch.equal(task_arithmetic(BASE, MODELS[:1], "mean"), MODELS[0])


def test_the_mean_is_over_the_tasks_so_far():
    method = TaskArithmetic(scale="mean")
    for number, (theta, context) in enumerate(contexts(), start=1):
        method.absorb(theta, context)
        shown = method.deploy(theta, context)
        wanted = torch.stack(MODELS[:number]).mean(0)
        torch.testing.assert_close(shown["w"], wanted, rtol=1e-5, atol=1e-6)
    assert method.activity()["merged_tasks"] == len(MODELS)


@pytest.mark.parametrize("scale", ["median", -0.1])
def test_scale_is_a_number_or_mean(scale):
    with pytest.raises(ValidationError):
        TaskArithmetic(scale=scale)


def test_distances_are_over_the_weights_of_the_trunk():
    method = TaskArithmetic(scale=0.5)
    norms = {"bn.running_var": torch.zeros(2), "n": torch.tensor(0)}
    anchor = Anchor({"w": torch.zeros(2), "fc.weight": torch.zeros(3)} | norms, torch.zeros(3) > 0)
    context = SimpleNamespace(
        task=SimpleNamespace(index=0),
        head=("fc.weight",),
        shared=False,
        anchors=Anchors(anchor, anchor),
    )
    theta = {"w": torch.tensor([6.0, 8.0]), "fc.weight": torch.full((3,), 50.0)}
    theta |= {"bn.running_var": torch.full((2,), 900.0), "n": norms["n"]}
    method.absorb(theta, context)
    method.deploy(theta, context)
    activity = method.activity()
    assert (activity["distance_moved"], activity["distance_to_pretrained"]) == (5, 5)


@pytest.mark.parametrize("scale", [0.4, 1.0])
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_of_the_reference(density, scale):
    expected = REFERENCE[f"ties/density{density}_lambda{scale}"]
    close(ties(BASE, MODELS, density, scale), expected)
    merged = ties({"w": BASE}, [{"w": model} for model in MODELS], density, scale, trim="model")
    close(merged["w"], expected)  # one tensor is the whole model


def slow_ties(base, models, density, scale):
    """Algorithm 1 entry by entry, over the model as one vector."""
    flat = [torch.cat([(m[n] - base[n]).flatten() for n in base]) for m in models]
    keep = int(density * len(flat[0]))
    for vector in flat:
        order = sorted(range(len(vector)), key=lambda i: (-abs(vector[i].item()), i))
        vector[order[keep:]] = 0
    out = []
    for i in range(len(flat[0])):
        values = [vector[i].item() for vector in flat]
        sign = np.sign(sum(values))
        agreeing = [v for v in values if np.sign(v) == sign and v]
        out.append(np.mean(agreeing) if agreeing else 0.0)
    parts = torch.tensor(out).split([base[n].numel() for n in base])
    return {n: base[n] + scale * p.view_as(base[n]) for n, p in zip(base, parts, strict=True)}


def random_state(seed, base=None):
    random = torch.Generator().manual_seed(seed)
    shapes = {"a": (5, 7), "b": (3,), "c": (2, 2, 2)}
    drawn = {n: torch.randn(s, generator=random) for n, s in shapes.items()}
    # Rounded, so that magnitudes tie.
    return drawn if base is None else {n: base[n] + (drawn[n] * 2).round() for n in drawn}


@pytest.mark.parametrize("density", [0.1, 0.37, 1.0])
def test_trimming_over_the_model_against_a_plain_loop(density):
    base = {n: x.round() for n, x in random_state(0).items()}
    models = [random_state(i, base) for i in (1, 2, 3)]
    merged = ties(base, models, density, 0.7, trim="model")
    for name, expected in slow_ties(base, models, density, 0.7).items():
        torch.testing.assert_close(merged[name], expected.float())


def test_trimming_keeps_at_least_one_entry():
    merged = ties(torch.zeros(4), [torch.tensor([1.0, 3.0, 2.0, 0.0])], 0.01, 1.0)
    assert merged.tolist() == [0, 3, 0, 0]


def test_no_sign_wins_a_tie():
    models = [torch.tensor([2.0, 1.0]), torch.tensor([-2.0, 1.0])]
    assert ties(torch.zeros(2), models, 1.0, 1.0).tolist() == [0, 1]


@pytest.mark.parametrize("merge", [task_arithmetic, lambda b, m, s: ties(b, m, 1.0, s)])
def test_one_model_at_scale_1_is_the_model(merge):
    base, model = torch.randn(100) * 1e4, torch.randn(100)
    merged = merge(base, [model], 1.0)
    assert torch.equal(merged, model)
    assert merged.data_ptr() != model.data_ptr()


def test_statistics_are_averaged_and_counters_kept():
    base = {"running_var": torch.tensor([4.0]), "n": torch.tensor(1), "w": torch.tensor([0.0])}
    models = [
        {"running_var": torch.tensor([v]), "n": torch.tensor(n), "w": torch.tensor([1.0])}
        for v, n in ((1.0, 5), (0.5, 7))
    ]
    merged = task_arithmetic(base, models, 1.0)
    assert merged["running_var"].item() == pytest.approx(0.75)  # the sum would be -2.5
    assert (merged["n"].item(), merged["w"].item()) == (7, 2)


@pytest.mark.parametrize("density", [0.0, 1.1])
def test_density_out_of_range(density):
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\], got"):
        ties(BASE, MODELS, density, 1.0)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="no models"):
        task_arithmetic(BASE, [], 1.0)
    with pytest.raises(ValueError, match="shapes of '' differ"):
        task_arithmetic(BASE, [BASE[:2]], 1.0)
    with pytest.raises(ValueError, match="weights differ in"):
        task_arithmetic({"a": BASE}, [{"b": BASE}], 1.0)


def contexts():
    pretrained = {"w": BASE, "fc.weight": torch.zeros(3)}
    anchor = Anchor(pretrained, torch.zeros(3, dtype=torch.bool))
    for index, model in enumerate(MODELS):
        context = SimpleNamespace(
            task=SimpleNamespace(index=index),
            shared=False,
            head=("fc.weight",),
            anchors=Anchors(anchor, anchor),
        )
        yield {"w": model, "fc.weight": torch.full((3,), float(index))}, context


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: TaskArithmetic(scale=0.5), "task_arithmetic/lambda0.5"),
        (lambda: TIES(density=0.2, scale=0.4), "ties/density0.2_lambda0.4"),
        (lambda: TIES(density=0.5, scale=1.0, trim="model"), "ties/density0.5_lambda1.0"),
    ],
)
def test_task_after_task_and_through_resuming(make, expected, tmp_path):
    method = make()
    for theta, context in contexts():
        method.absorb(theta, context)
        shown = method.deploy(theta, context)
        again = method.deploy(theta, context)  # it changes nothing
        assert all(torch.equal(shown[name], again[name]) for name in shown)
        torch.save(method.state_dict(), tmp_path / "state.pt")
        method = make()
        method.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    close(shown["w"], REFERENCE[expected])
    assert torch.equal(shown["fc.weight"], theta["fc.weight"])


@pytest.mark.parametrize(
    "method", [TaskArithmetic(scale=1), TaskArithmetic(scale="mean"), TIES(scale=1, density=1)]
)
def test_one_task_at_the_neutral_setting_is_plain_fine_tuning(method):
    theta, context = next(contexts())
    method.absorb(theta, context)
    assert method.deploy(theta, context) is theta
    assert method.activity()["active"] == 0


@pytest.mark.parametrize(("make", "copies"), [(TaskArithmetic, 1), (TIES, 3)])
def test_memory_does_not_grow_with_tasks(make, copies):
    method = make()
    for theta, context in contexts():
        method.absorb(theta, context)
        method.deploy(theta, context)
    totals = method.state_dict()["totals"]["w"]
    assert sum(x.numel() * x.element_size() for x in totals) == copies * BASE.numel() * 4
    assert method.needs.copies == 1 + copies
    assert method.activity()["merged_tasks"] == len(MODELS)
