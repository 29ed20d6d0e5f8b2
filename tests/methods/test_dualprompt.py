"""DualPrompt: other programs' choice of prompts, and the loss of its keys."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import look
from prompted import DUAL, IMAGES, PEERS, network, task

from clbench.methods.dualprompt import expert_prompts
from clbench.methods.l2p import L2P


def peer(name):
    return torch.from_numpy(PEERS[f"dualprompt/{name}"])


def wanted(kind, case):
    """Prompts of all images, (images, blocks, …), and the pool, (prompts, blocks, …)."""
    if kind == "prompt":  # in front of the tokens
        pool, found = peer("prompt/pool"), peer(f"prompt/{case}/batched_prompt")
        return found.transpose(0, 1), pool.transpose(0, 1)
    # Prefixes: as keys and values, which are apart in the pool.
    found = peer(f"prefix/{case}/batched_prompt_axes_in_order").transpose(0, 1)
    return found, peer("prefix/pool").permute(2, 0, 1, 3, 4, 5)


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
@pytest.mark.parametrize(("case", "own"), [("test_per_sample", None), ("train_task2", 2)])
def test_prompts_are_those_of_another_program(kind, case, own):
    found, pool = wanted(kind, case)
    query, keys = peer(f"{kind}/cls_features"), peer(f"{kind}/key")
    cosines, prompts = expert_prompts(query, keys, pool, own)
    assert torch.equal(prompts, found)
    torch.testing.assert_close(cosines.mean(), peer(f"{kind}/{case}/reduce_sim"))
    same = pool[peer(f"{kind}/{case}/indices")[:, 0]]
    assert torch.equal(prompts, same)


@pytest.fixture
def trained():
    """A method and its network in training on the second task, and images' queries."""
    method, plain, model = network("dualprompt", pull=0.5)
    context = SimpleNamespace(model=model, head=("head.weight",), task=task(1), first=False)
    method.start(context)
    query = plain.forward_head(plain.forward_features(IMAGES), pre_logits=True)
    return method, model.train(), query


def asked(method, model, step):
    forward = look(model, inputs=IMAGES)
    forward.mean, forward.step = torch.mean, step
    return method.penalty(forward)


def test_in_training_images_have_their_task_s_prompt_and_pull_its_key(trained):
    method, model, query = trained
    pool = model.prompt_pool
    logits = model(IMAGES)
    found = pool.prefixes(lambda: query, range(2))
    for place, block in enumerate(DUAL["e_blocks"]):
        for part, values in enumerate(found[block]):
            assert torch.equal(values, pool.experts[1][place, part].expand(6, -1, -1))
    loss = asked(method, model, 1)
    cosines = F.normalize(query, dim=1) @ F.normalize(pool.keys[1], dim=0)
    torch.testing.assert_close(loss, 0.5 * (1 - cosines).mean())
    (logits.sum() + loss).backward()
    have = {name for name, p in pool.named_parameters() if p.grad is not None and p.grad.any()}
    assert have == {"general", "experts.1", "keys.1"}
    model(IMAGES.flip(3))  # as of a memory
    torch.testing.assert_close(asked(method, model, 2), loss)
    method.finish(SimpleNamespace(model=model))
    nearest = query @ F.normalize(torch.stack(list(pool.keys[:2])), dim=1).T
    told = method.activity()
    assert told["own_key_nearest"] == pytest.approx(float((nearest.argmax(1) == 1).float().mean()))
    assert told["key_distance"] == pytest.approx((1 - cosines).mean().item())
    assert pool.seen is None


def test_in_testing_images_have_the_prompt_of_the_nearest_key(trained):
    _, model, query = trained
    pool = model.eval().prompt_pool
    with torch.no_grad():
        pool.keys[0].copy_(query[2])
        pool.keys[1].copy_(query[4])
        pool.keys[2].copy_(query[0])  # of a task that is to come
    found = pool.prefixes(lambda: query, range(2))
    cosines = torch.stack([F.cosine_similarity(query, key[None], dim=1) for key in pool.keys[:2]])
    places = cosines.argmax(0)
    assert places[[2, 4]].tolist() == [0, 1]
    for place, block in enumerate(DUAL["e_blocks"]):
        for image, chosen in enumerate(places):
            for part in (0, 1):
                assert torch.equal(found[block][part][image], pool.experts[chosen][place, part])
    assert {"experts.2", "keys.2"} <= {name for name, _ in pool.named_parameters()}


def test_what_is_off_asks_nothing():
    _, _, model = network("dualprompt", [0, 2], e_length=0)

    def refuse():
        raise AssertionError

    assert sorted(model.prompt_pool.prefixes(refuse, range(2))) == DUAL["g_blocks"]
    _, _, model = network("dualprompt", [0, 2], g_length=0)
    assert sorted(model.prompt_pool.blocks) == DUAL["e_blocks"]


def test_without_their_loss_keys_rest(trained):
    method, model, _ = trained
    names = [name for name, _ in model.named_parameters() if name.startswith("prompt_pool")]
    own = {"prompt_pool.general", "prompt_pool.experts.1"}
    assert set(filter(method.trainable, names)) == own | {"prompt_pool.keys.1"}
    method.pull = 0.0
    assert set(filter(method.trainable, names)) == own
    assert not L2P(pull=0).trainable("prompt_pool.keys")
    assert L2P().trainable("prompt_pool.keys")
