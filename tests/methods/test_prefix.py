"""Prefix tuning: attention with prefixes, the network with them, and which tasks' there are."""

import copy
from types import SimpleNamespace

import pytest
import timm
import torch
from prompted import CODA, DUAL, IMAGES, KINDS, OPTIONS, VIT, network, task
from safetensors.torch import load_file
from timm.models.vision_transformer import Attention

import clbench
from clbench.errors import ClbenchError
from clbench.methods.coda_prompt import CODAPrompt
from clbench.methods.prefix import Prefixed, prefix_attention
from clbench.recipe.recipe import parse
from clbench.record import checkpoints
from clbench.runner.flops import Flops
from clbench.runner.parts import Passes
from clbench.sweep.sweeping import sweep


def by_hand(layer, tokens, keys, values):
    """Attention with prefixes, an image and a head at a time, in plain words."""
    width = layer.head_dim
    found = torch.zeros(*tokens.shape[:2], layer.num_heads * width, dtype=tokens.dtype)
    for b, image in enumerate(tokens):
        q, k, v = layer.qkv(image).chunk(3, 1)
        for head in range(layer.num_heads):
            at = slice(head * width, (head + 1) * width)
            every_k = torch.cat([keys[b][:, at], layer.k_norm(k[:, at])])
            every_v = torch.cat([values[b][:, at], v[:, at]])
            scores = layer.q_norm(q[:, at]) @ every_k.T / width**0.5
            found[b, :, at] = scores.softmax(1) @ every_v
    found = layer.norm(found)
    if layer.gate is not None:
        found = found * layer.gate(tokens).sigmoid()
    return layer.proj(found)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"qk_norm": True}, {"scale_norm": True, "gated": True}, {"qkv_bias": True}],
    ids=str,
)
@pytest.mark.parametrize("length", [0, 3])
def test_attention_looks_at_prefixes(fused, options, length):
    torch.manual_seed(1)
    layer = Attention(12, 3, norm_layer=torch.nn.LayerNorm, **options).double().eval()
    layer.fused_attn = fused
    tokens, keys, values = (torch.randn(2, n, 12).double() for n in (5, length, length))
    found = prefix_attention(layer, tokens, keys, values)
    torch.testing.assert_close(found, by_hand(layer, tokens, keys, values))
    if not length:
        assert torch.equal(found, layer(tokens))
    one = prefix_attention(layer, tokens, keys[0], values[0])  # the same for all images
    both = [x[:1].expand(2, -1, -1) for x in (keys, values)]
    torch.testing.assert_close(one, by_hand(layer, tokens, *both))


@pytest.mark.parametrize("name", KINDS)
def test_without_prompts_it_is_the_plain_network_bit_for_bit(name):
    off = KINDS[name][2]
    for known, settings in (([0, 0], {}), ([0, 2], off)):
        _, plain, model = network(name, known, **settings)
        assert type(model) is Prefixed
        assert torch.equal(model(IMAGES), plain(IMAGES))
        assert torch.equal(
            model.query(IMAGES), plain.forward_head(plain.forward_features(IMAGES), True)
        )
    assert not list(model.prompt_pool.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_prompts_reach_the_blocks_that_were_named(name):
    _, plain, model = network(name, [0, 2])
    query = plain.forward_head(plain.forward_features(IMAGES), pre_logits=True)
    prefixes = model.prompt_pool.prefixes(lambda: query, range(2))
    assert sorted(prefixes) == sorted(model.prompt_pool.blocks)
    x = plain._pos_embed(plain.patch_embed(IMAGES))
    for number, block in enumerate(plain.blocks):
        seen = block.norm1(x)
        if number in prefixes:
            keys, values = (p.expand(len(x), -1, -1) for p in prefixes[number])
            x = x + by_hand(block.attn, seen, keys, values)
        else:
            x = x + block.attn(seen)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(model(IMAGES), plain.head(plain.norm(x)[:, 0]))
    assert all(getattr(block.attn, "prefix", None) is None for block in model.blocks)
    alone = torch.cat([model(image[None]) for image in IMAGES])
    torch.testing.assert_close(model(IMAGES), alone)


@pytest.mark.parametrize("name", KINDS)
def test_copies_are_networks_of_their_own(name):
    _, _, model = network(name, [0, 2])
    before, twin = model(IMAGES), copy.deepcopy(model)
    assert torch.equal(twin(IMAGES), before)
    twin.prompt_pool.known.zero_()
    assert not torch.equal(twin(IMAGES), before)
    assert torch.equal(model(IMAGES), before)


def test_blocks_that_are_not_there_and_other_attention_are_refused():
    with pytest.raises(
        ClbenchError, match=r"dualprompt: there is no block 3, .* from 0 to 2: name"
    ):
        network("dualprompt", e_blocks=[3])
    torch.manual_seed(0)
    model = timm.create_model("tiny_vit", img_size=8, attn_layer="diff", **OPTIONS)
    with pytest.raises(
        ClbenchError, match=r"prefixes go with timm's Attention .* has a DiffAttention"
    ):
        CODAPrompt(**CODA).adapt(model, task())


@pytest.mark.parametrize("name", KINDS)
def test_mistakes_are_told_in_one_line_as_the_recipe_is_read(recipe, name):
    field = list(KINDS[name][0].block_fields)[-1]

    def refused(**settings):
        with pytest.raises(ClbenchError) as caught:
            parse(recipe | {"model": VIT, "methods": {name: settings}})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "block 2 twice" in refused(**{field: [2, 2]})
    assert f"methods.{name}.{field}" in refused(**{field: [-1]})
    lengths = [f for f in KINDS[name][0].model_fields if "length" in f]
    assert f"methods.{name}.{lengths[0]}" in refused(**{lengths[0]: -2})
    told = refused(**KINDS[name][1] | {field: [7]})
    assert f"methods: {name} has 7 in {field}, and there is no block 7, as the network" in told
    parse(recipe | {"model": VIT, "methods": {name: KINDS[name][1]}})
    for backbone, kind in (("tiny_cnn", "TinyCNN"), ("resnet18", "ResNet")):
        model = {"backbone": backbone, "weights": "none"}
        with pytest.raises(ClbenchError, match=f"{name} works on timm's Vis.* is a {kind}: choose"):
            parse(recipe | {"model": model, "methods": {name: {}}})


@pytest.mark.parametrize("name", KINDS)
def test_settings_stay_as_they_were(name):
    method, _, model = network(name)
    assert method.adapt(model, task(1)) is model
    kind, settings, off = KINDS[name]
    assert kind(**(settings | {method.free: 0.7})).adapt(model, task(1)) is model
    with pytest.raises(ClbenchError, match=f"only {method.free} can differ between tasks"):
        kind(**(settings | off)).adapt(model, task(1))


@pytest.mark.parametrize("name", KINDS)
def test_blocks_cannot_be_computed_again(recipe, tmp_path, name):
    settings = KINDS[name][1]
    recipe["model"] = VIT | {"checkpointing": True}
    with pytest.raises(ClbenchError, match=r"model\.checkpointing"):
        clbench.run(recipe | {"methods": {name: settings}}, tmp_path / "run")


@pytest.mark.parametrize("name", KINDS)
def test_the_pass_of_the_query_counts(name):
    def counted(known, **settings):
        _, _, model = network(name, known, **settings)
        for key, p in model.named_parameters():
            p.requires_grad_("prompt_pool" in key or key.startswith("head"))
        model.train()
        found = Flops(Passes(model), 8)
        found.look(model)
        return found

    off = counted([0, 2], **KINDS[name][2])
    on = counted([0, 2])
    assert (on.passes.trained, on.passes.passed) == (0, 0)
    # The way back through the blocks costs more than that of the head alone.
    assert on._now[0] > off._now[0]
    assert on._now[1] == pytest.approx(off._now[1], rel=0.1)


@pytest.fixture
def short(recipe, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7], [8, 9]], "train_per_class": 20}
    return recipe | {"model": VIT, "steps": 3, "checkpoints": "all"}


def weights_of(folder, prefix=""):
    return {
        k: v for k, v in load_file(folder / "model.safetensors").items() if k.startswith(prefix)
    }


def changed(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("name", KINDS)
def test_only_the_task_s_own_prompts_and_the_head_learn(short, tmp_path, name):
    methods = {name: KINDS[name][1]}
    every = [
        "prompt_pool.known", *(f"prompt_pool.{part}" for part in {
            "dualprompt": ("general", "experts.{}", "keys.{}"),
            "coda_prompt": ("keys.{}", "attention.{}", "prompts.{}"),
        }[name])
    ]  # fmt: skip
    short["stream"]["first_tasks"] = 2
    clbench.run(short | {"methods": methods}, tmp_path / "run")
    states = [
        checkpoints.load(tmp_path / "run", number, ("trained",))["trained"] for number in (1, 2)
    ]
    assert changed(*states) == {part.format(1) for part in every} | {"head.weight", "head.bias"}
    assert [state["prompt_pool.known"].tolist() for state in states] == [[0, 1], [0, 2]]


@pytest.mark.parametrize("name", KINDS)
def test_without_prompts_it_is_a_linear_probe(short, tmp_path, name):
    short["stream"]["first_tasks"] = 1
    clbench.run(short | {"methods": {name: KINDS[name][2]}}, tmp_path / "off")
    clbench.run(short | {"methods": {"linear_probe": {}}}, tmp_path / "probe")
    off, probe = weights_of(tmp_path / "off"), weights_of(tmp_path / "probe")
    assert off.keys() - probe.keys() == {"prompt_pool.known"}
    assert not changed(probe, off)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("first", "known"), [(False, [0, 2]), (True, [1, 2])])
def test_tasks_that_stand_alone_have_their_own_prompts_alone(name, first, known):
    method, _, model = network(name)
    method.start(SimpleNamespace(model=model, head=(), task=task(1), first=first))
    assert model.prompt_pool.known.tolist() == known


def test_a_sweep_sees_each_task_with_the_prompts_of_its_time(short, tmp_path):
    methods = {"dualprompt": DUAL, "align_head": {"epochs": 1, "samples": 8}}
    record = clbench.run(short | {"methods": methods}, tmp_path / "run")
    found = sweep(tmp_path / "run", "epochs", [1])
    assert found.reproduced
    for scenario, change in found.rows[0].backward_transfer.items():
        assert change == pytest.approx(record.summary()[scenario]["backward_transfer"])


def test_all_tasks_at_once_are_one(short, tmp_path):
    methods = {"multitask": {}, "coda_prompt": CODA}
    record = clbench.run(short | {"methods": methods}, tmp_path / "run")
    assert record.run.stages == 1
    state = weights_of(tmp_path / "run", "prompt_pool.keys")
    assert {k: v.shape for k, v in state.items()} == {"prompt_pool.keys.0": (2, 6, 32)}
