"""Runs on a small ViT with adapters, and the same ViT written out."""

import torch
import torch.nn.functional as F
from helpers import VIT
from safetensors.torch import load_file

from clbench.recipe.recipe import parse
from clbench.runner.setup import Setup


def three_tasks(recipe):
    """The recipe with the network, and three short tasks."""
    recipe["stream"] |= {"classes": [[4, 5], [6, 7], [8, 9]], "train_per_class": 15}
    recipe["stream"] |= {"test_per_class": 10}
    optimizer = {"name": "sgd", "lr": 0.1}
    return recipe | {"steps": 3, "batch_size": 10, "optimizer": optimizer, "model": VIT}


def by_hand(model, adapters, images):
    """Class tokens of a ViT, block after block, with the weights of adapters (or none)."""
    x = model._pos_embed(model.patch_embed(images))
    for number, block in enumerate(model.blocks):
        x = x + block.attn(block.norm1(x))
        added = 0.0
        if adapters is not None:
            down, up = (
                [adapters[f"blocks.{number}.{adapters['name']}.{layer}.{leaf}"]
                 for leaf in ("weight", "bias")]
                for layer in ("down", "up")
            )  # fmt: skip
            added = adapters["scale"] * (F.relu(x @ down[0].T + down[1]) @ up[0].T + up[1])
        x = x + block.mlp(block.norm2(x)) + added
    return model.norm(x)[:, 0]


def seen_by(recipe, folder):
    """The stream of a run, its network as timm makes it with θ_*, and its final weights."""
    setup = Setup.of(parse(recipe), folder)
    reader = setup.network.reader(setup.recipe)
    setup.stream.open(setup.stream.tasks[-1], past=True)

    def images(split):
        parts = [torch.arange(len(split))]
        return next(iter(reader.batches(split, torch.device("cpu"), parts))).inputs

    weights = load_file(folder / "model.safetensors")
    return setup.stream.tasks, images, setup.network.model.eval(), weights
