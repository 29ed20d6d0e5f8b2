"""LP-FT: its probe by a plain loop, and what it spares the trunk."""

import pytest
import torch
from methods.test_head_refit import RULES, make_context, network, obvious  # noqa: F401  (a fixture)

import clbench
from clbench.errors import ClbenchError
from clbench.methods.lp_ft import LPFT
from clbench.recipe.recipe import parse
from clbench.weights import snapshot


@pytest.mark.parametrize("epochs", [None, 2])
def test_the_heads_rows_are_those_of_a_plain_loop(network, epochs):  # noqa: F811
    context, before = make_context(network), snapshot(network)
    rules = RULES.model_copy(update={"epochs": epochs or RULES.epochs})
    wanted = obvious(before, context, rules)
    method = LPFT(epochs=epochs)
    try:
        method.start(context)
        after = snapshot(network)
    finally:
        network.load_state_dict(before)
    for name, rows in zip(context.head, wanted, strict=True):
        torch.testing.assert_close(after[name][2:5], rows, rtol=1e-4, atol=1e-5)
        assert not torch.equal(after[name][2:5], before[name][2:5])
        assert torch.equal(after[name][[0, 1, 5]], before[name][[0, 1, 5]])
    assert all(torch.equal(after[n], x) for n, x in before.items() if n not in context.head)
    moved = torch.stack([(after[n] - before[n]).norm() for n in context.head]).norm()
    assert method.activity()["distance_moved"] == pytest.approx(float(moved), rel=1e-5)
    assert network.training


def test_a_head_that_fits_leaves_the_trunk_less_to_do(recipe, tmp_path, no_pictures):
    """The claim of the paper, on a task."""
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"steps": 30, "optimizer": {"name": "adamw", "lr": 0.01}}
    plain, probed = (
        clbench.run(recipe | {"methods": {"lp_ft": {"epochs": epochs}}}, tmp_path / str(epochs))
        for epochs in (0, 60)
    )
    assert plain.summary()["inactive"] == ["lp_ft"]
    did = probed.tasks[0].methods["lp_ft"]
    assert did["active"] == 1
    assert did["distance_moved"] > 0
    ways = [record.tasks[0].distance["pretrained"] for record in (plain, probed)]
    assert ways[1] < 0.9 * ways[0]


@pytest.mark.parametrize(
    ("methods", "model", "why"),
    [
        ({"lp_ft": {}}, {"head": "linear_probe"}, "and so does model.head = 'linear_probe'"),
        ({"lp_ft": {}, "linear_probe": {}}, {}, "after it there is no fine-tuning"),
        ({"lp_ft": {}, "ncm": {}}, {}, "ncm leaves nothing to train.*methods.ncm.tuned: first"),
    ],
)
def test_where_there_is_no_fine_tuning_or_a_probe_already(recipe, methods, model, why):
    recipe["model"] |= model
    with pytest.raises(ClbenchError, match=why) as caught:
        parse(recipe | {"methods": methods})
    assert "\n" not in str(caught.value)
