"""CODA-Prompt: another program's prompts, penalty, gradients and beginnings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import look
from prompted import CODA, PEERS, VIT, network, task

from clbench.errors import ClbenchError
from clbench.methods.coda_prompt import assembled
from clbench.methods.orthogonal import gram_schmidt, orthogonality
from clbench.recipe.recipe import parse

TRAINED = [
    key.split("/")[1] for key in PEERS if key.startswith("coda/") and key.endswith("_train/Ek")
]


def peer(name):
    return torch.from_numpy(np.asarray(PEERS[f"coda/{name}"]))


def shares():
    """Components of a task, and where a case's own begin."""
    return len(peer("K")) // int(peer("n_tasks"))


@pytest.mark.parametrize("case", TRAINED)
def test_prompts_penalty_and_gradients_are_those_of_another_program(case):
    stage, share = int(case.removeprefix("task").removesuffix("_train")), shares()
    parts = [peer(name).requires_grad_() for name in "KAP"]
    # Earlier components are frozen, later ones not there.
    keys, attention, prompts = (
        torch.cat([part[: stage * share].detach(), part[stage * share : (stage + 1) * share]])
        for part in parts
    )
    prompt = assembled(peer("query"), attention, keys, prompts)
    half = prompt.shape[1] // 2
    first, second = prompt[:, :half], prompt[:, half:]
    torch.testing.assert_close(first, peer(f"{case}/Ek"))
    torch.testing.assert_close(second, peer(f"{case}/Ev"))
    rows = (keys, attention, prompts.flatten(1))
    loss = float(peer("mu")) * sum(map(orthogonality, rows))
    torch.testing.assert_close(loss, peer(f"{case}/loss"))
    (loss + first.square().sum() + second.pow(3).sum()).backward()
    for name, part in zip("KAP", parts, strict=True):
        torch.testing.assert_close(part.grad, peer(f"{case}/gradient_{name}"))
    tested = assembled(peer("query"), attention, keys, prompts).detach()
    for name, x in (("Ek", tested[:, :half]), ("Ev", tested[:, half:])):
        torch.testing.assert_close(x, peer(f"task{stage}_test/{name}"))


def test_penalty_is_a_mean():
    torch.testing.assert_close(orthogonality(peer("K")), peer("penalty_of_K"))
    both = torch.stack([peer("K"), peer("A")])
    torch.testing.assert_close(orthogonality(both), torch.stack([*map(orthogonality, both)]))


@pytest.mark.parametrize("stage", [0, 1])
def test_new_rows_are_those_of_another_program(stage):
    share, rows = shares(), peer(f"gram_schmidt_task{stage}/K")
    own = slice(stage * share, (stage + 1) * share)
    found = gram_schmidt(rows[: own.start], peer(f"gram_schmidt_task{stage}/drawn"))
    torch.testing.assert_close(found, rows[own])


def test_rows_are_orthonormal_to_a_basis_of_those_before():
    torch.manual_seed(0)
    before, drawn = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    basis = gram_schmidt(before[:, :0], before)
    rows = torch.cat([basis, gram_schmidt(basis, drawn)], 1)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(12).double().expand(2, 12, 12))
    # The basis spans what was before.
    torch.testing.assert_close(before @ basis.mT @ basis, before)


def begun(stage, first=False, **settings):
    method, _, model = network("coda_prompt", **settings)
    context = SimpleNamespace(model=model, head=("head.weight",), task=task(stage), first=first)
    for part in model.prompt_pool.parameters():  # as trained
        part.data.add_(torch.randn_like(part) * 0.2)
    method.start(context)
    return method, model, model.prompt_pool


def test_a_task_s_components_begin_orthogonal_to_those_before():
    _, _, pool = begun(1)
    for part in (pool.keys, pool.attention, pool.prompts):
        assert [x.shape[1] for x in part] == [2, 2, 2]
        before, own = part[0].detach(), part[1].detach()
        eye = torch.eye(2).expand(2, 2, 2)
        torch.testing.assert_close(own @ own.mT, eye, atol=1e-5, rtol=0)
        assert (own @ before.mT).abs().max() < 1e-5
        assert orthogonality(part[2]).max() > 1e-3  # left as it was
    assert pool.known.tolist() == [0, 2]


def test_it_begins_orthonormal():
    _, _, model = network("coda_prompt")
    for part in (model.prompt_pool.keys, model.prompt_pool.attention, model.prompt_pool.prompts):
        assert orthogonality(torch.cat(list(part), 1)).max() < 1e-10


def test_the_penalty_is_a_sum_over_blocks():
    method, model, pool = begun(1, orthogonality=0.3)
    far = 0
    for block in range(len(CODA["blocks"])):
        for part in (pool.keys, pool.attention, pool.prompts):
            rows = torch.cat([part[0][block], part[1][block]])
            far += (rows @ rows.T - torch.eye(4)).square().mean()
    torch.testing.assert_close(method.penalty(look(model)), 0.3 * far)
    told = method.activity()
    assert told["components"] == 4
    assert told["far"] == pytest.approx(far.item())
    assert begun(1, orthogonality=0)[0].penalty(look(model)) is None


@pytest.mark.parametrize(
    ("pool", "way"),
    [(2, "every one of 3 tasks has some: say 3 or"), (33, "in 32 channels: say 32 or")],
)
def test_too_few_or_too_many_components_are_refused(pool, way):
    with pytest.raises(ClbenchError, match=rf"coda_prompt has pool = {pool}, and .*{way}"):
        network("coda_prompt", pool=pool)
    network("coda_prompt", pool=pool, length=0)


def test_a_pool_that_is_wider_than_the_network_is_refused_as_the_recipe_is_read(recipe):
    settings = {"blocks": [0], "pool": 33}
    with pytest.raises(ClbenchError, match=r"has pool = 33, and .* in 32 channels") as caught:
        parse(recipe | {"model": VIT, "methods": {"coda_prompt": settings}})
    assert "\n" not in str(caught.value)
    parse(recipe | {"model": VIT, "methods": {"coda_prompt": settings | {"length": 0}}})


def test_shares_are_equal_and_what_is_left_is_not_used():
    _, _, model = network("coda_prompt", pool=8)
    assert [x.shape[1] for x in model.prompt_pool.keys] == [2, 2, 2]
