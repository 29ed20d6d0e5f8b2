"""L2P: another program's numbers, the network with prompts, and what a run changes."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import look
from prompted import PEERS
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.methods.l2p import L2P, Prompted
from clbench.methods.prompts import nearest_keys
from clbench.recipe.recipe import parse

VIT = {"backbone": "tiny_vit", "weights": "pretrain", "pretraining": {"epochs": 3}}
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def peer(name):
    return torch.from_numpy(PEERS[f"l2p/{name}"])


def test_prompts_and_pull_are_those_of_another_program():
    cosines, places = nearest_keys(peer("cls_features"), peer("key"), 4)
    assert torch.equal(places, peer("cls_per_sample/indices"))
    torch.testing.assert_close(cosines.sum(1).mean(), peer("cls_per_sample/reduce_sim"))
    tokens = torch.cat([peer("prompt")[places].flatten(1, 2), peer("tokens")], 1)
    assert torch.equal(tokens, peer("cls_per_sample/prompted_embedding"))


class Task:
    name = "one"


def network(**settings):
    torch.manual_seed(0)
    method = L2P(**settings)
    model = timm.create_model("tiny_vit", num_classes=4, img_size=8)
    plain = copy.deepcopy(model)
    return method, plain, method.adapt(model, Task)


@pytest.mark.parametrize("pooled", ["prompts", "network"])
def test_the_network_is_the_plain_one_with_tokens_in_front(pooled):
    _, plain, model = network(pool=4, length=2, top=3, pooled=pooled)
    plain.eval(), model.eval()
    _, places = nearest_keys(plain.forward_features(IMAGES)[:, 0], model.prompt_pool.keys, 3)
    prompts = model.prompt_pool.prompts[places].flatten(1, 2)
    tokens = torch.cat([prompts, plain._pos_embed(plain.patch_embed(IMAGES))], 1)
    tokens = plain.norm(plain.blocks(tokens))
    features = tokens[:, :6].mean(1) if pooled == "prompts" else tokens[:, 6]
    torch.testing.assert_close(model(IMAGES), plain.head(features))
    names = set(model.state_dict()) - set(plain.state_dict())
    assert names == {"prompt_pool.prompts", "prompt_pool.keys"}


def test_every_image_chooses_for_itself():
    _, _, model = network()
    model.eval()
    together = model(IMAGES)
    alone = torch.cat([model(image[None]) for image in IMAGES])
    torch.testing.assert_close(together, alone)
    assert model.prompt_pool.seen is None
    assert not copy.deepcopy(model)._chosen


def asked(method, model, inputs):
    method._used = torch.zeros(method.pool, dtype=torch.bool)
    forward = look(model, inputs=inputs)
    forward.mean = torch.mean
    return method.penalty(forward)


def test_keys_are_pulled_to_the_queries_of_the_batch_whatever_passed_since():
    method, plain, model = network(pool=10, top=2, pull=0.5)
    model.train()
    model(IMAGES)
    loss = asked(method, model, IMAGES)
    query = plain.forward_features(IMAGES)[:, 0]
    cosines, places = nearest_keys(query, model.prompt_pool.keys, 2)
    torch.testing.assert_close(loss, 0.5 * (2 - cosines.sum(1)).mean())
    loss.backward()
    pulled = model.prompt_pool.keys.grad.any(1).nonzero().flatten()
    assert torch.equal(pulled, places.unique())
    assert model.prompt_pool.prompts.grad is None
    model(IMAGES.flip(3))  # as of a memory
    torch.testing.assert_close(asked(method, model, IMAGES), loss.detach(), check_dtype=False)
    told = method.activity()
    assert told["prompts_used"] == len(pulled)
    assert told["cosine"] == pytest.approx(float(cosines.detach().mean()))


def test_only_chosen_prompts_their_keys_and_the_head_learn(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"model": VIT, "methods": {"l2p": {"pool": 30, "top": 1}}, "checkpoints": "all"}
    recipe["optimizer"] = {"name": "sgd", "lr": 0.5, "weight_decay": 0.0}
    record = clbench.run(recipe, tmp_path / "run")
    weights = load_file(tmp_path / "run/model.safetensors")
    probed = recipe | {"methods": {"linear_probe": {}}}
    clbench.run(probed, tmp_path / "probe")
    plain = load_file(tmp_path / "probe/model.safetensors")
    differ = {name for name in plain if not torch.equal(weights[name], plain[name])}
    assert differ == {"head.weight", "head.bias"}
    told = record.tasks[0].methods["l2p"]
    assert 1 <= told["prompts_used"] < 30
    assert record.tasks[0].modes.trained_parameters == 30 * (5 * 64 + 64) + 65 * 6


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [("tiny_cnn", "TinyCNN"), ("deit_tiny_distilled_patch16_224", "VisionTransformerDistilled")],
)
def test_other_networks_are_refused_as_the_recipe_is_read(recipe, backbone, kind):
    model = {"backbone": backbone, "weights": "none"}
    with pytest.raises(ClbenchError, match=f"l2p works on timm's VisionTransformer .* a {kind}"):
        parse(recipe | {"model": model, "methods": {"l2p": {}}})
    parse(recipe | {"model": VIT, "methods": {"l2p": {}}})


def test_the_pool_stays_as_it_was_made():
    method, _, model = network(pool=4)
    assert method.adapt(model, Task) is model
    assert isinstance(L2P(pool=4, pull=0.3).adapt(model, Task), Prompted)
    with pytest.raises(ClbenchError, match="only pull can differ between tasks"):
        L2P(pool=5).adapt(model, Task)
    dropping = timm.create_model("tiny_vit", img_size=8, patch_drop_rate=0.5)
    with pytest.raises(ClbenchError, match="drops no patches"):
        L2P().adapt(dropping, Task)


def test_more_prompts_than_there_are_is_all_of_them():
    _, _, model = network(pool=2, top=5)
    assert model.prompt_pool(F.normalize(torch.rand(3, 64))).shape == (3, 10, 64)
