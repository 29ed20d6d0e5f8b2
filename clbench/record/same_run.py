"""Which settings make two runs the same run: one table for suites, reports and ``--resume``.

A suite takes a run for the one it plans, and a report takes runs for seeds of one method, where the
settings that decide the numbers are equal. ``--resume`` knows more: what lies in the data it
compares itself, so that the data may move, and any number of processes can take a run over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from clbench.record.baselines import PLAIN

#: ``decides``: the numbers follow from it. ``repeats``: they do, and a method is run with several.
#: ``free``: the name, or where and how fast a run works; the numbers are the same up to rounding.
#: ``place``: where data lies whose contents are compared once it is read. ``placement``: on how
#: many devices; in training, BatchNorm sees a device's share of a batch.
Role = Literal["decides", "repeats", "free", "place", "placement"]

#: Every field of a recipe is in one of them. A section that is named as a whole stands for all of
#: its fields, and for those that a stranger's recipe has.
ROLES: Mapping[Role, str] = {
    "decides": """
        stream stream.name stream.validation stream.train_per_class stream.test_per_class
        stream.first_tasks stream.test_on stream.order_seed stream.classes stream.labels
        stream.order stream.domains stream.pretrain_classes stream.leave_out stream.first
        stream.tasks stream.datasets stream.independent stream.angles stream.arguments
        stream.benchmark stream.dataset stream.subset stream.revision stream.image stream.label
        stream.train_split stream.test_split stream.scenario stream.run
        images.size images.stored images.fit images.scaling images.range images.mean images.std
        augment.flip augment.crop augment.padding augment.scale augment.jitter
        augment.randaugment augment.magnitude augment.erasing augment.mixup augment.cutmix
        label_smoothing ema early_stopping.every early_stopping.patience early_stopping.least
        model.backbone model.weights model.options model.head model.batch_norm
        model.batch_norm_training model.channels_last
        model.probe.epochs model.probe.lr model.probe.momentum model.probe.weight_decay
        model.probe.batch_size model.probe.augment model.probe.batch_norm
        model.pretraining.epochs model.pretraining.lr model.pretraining.weight_decay
        model.pretraining.batch_size
        methods optimizer.name optimizer.lr optimizer.momentum optimizer.nesterov optimizer.betas
        optimizer.eps optimizer.weight_decay optimizer.options optimizer.head_rate
        optimizer.layer_decay optimizer.decay_norms
        schedule.name schedule.warmup schedule.over schedule.options
        epochs steps batch_size train_logits per_task eval_every metrics evaluate callbacks
        retention.data retention.train retention.measures retention.sets retention.batch_norm
        retention.transform representation.measures representation.per_class plugins_sha256
        trainer trainer.precision trainer.accumulate_grad_batches trainer.gradient_clip_val
        trainer.gradient_clip_algorithm trainer.sync_batchnorm""",
    "repeats": "seed",
    "free": """
        name data_dir plugins loggers model.checkpointing model.compile stream.download
        images.keep images.workers eval_batch_size checkpoints process_timeout
        trainer.accelerator trainer.benchmark trainer.detect_anomaly
        trainer.deterministic trainer.enable_model_summary trainer.enable_progress_bar
        trainer.log_every_n_steps trainer.profiler""",
    "place": "stream.train stream.test stream.names",
    "placement": "trainer.devices trainer.num_nodes trainer.strategy",
}
_ROLE: dict[str, Role] = {key: role for role, keys in ROLES.items() for key in keys.split()}
#: What lightning.Trainer does unless told otherwise; so does null.
USUAL = {
    "trainer.accumulate_grad_batches": (1,),
    "trainer.devices": ("auto",),
    "trainer.num_nodes": (1,),
    "trainer.precision": (32, "32", "32-true"),
    "trainer.strategy": ("auto",),
    "trainer.sync_batchnorm": (False,),
}


def role_of(key: str) -> Role:
    """The role of a dotted key; one that is not known decides.

    >>> role_of("images.workers"), role_of("methods.sfa.p")
    ('free', 'decides')
    """
    while key not in _ROLE:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return "decides"
    return _ROLE[key]


def settings(recipe: Mapping[str, Any], but: Iterable[Role]) -> dict[str, Any]:
    """The settings of a recipe by which runs are told apart.

    Args:
        recipe: its plain values.
        but: the roles of those that are left out.

    Returns:
        Dotted keys to plain values. ``methods`` are the methods' names, as their order matters too,
        and so ``callbacks``, where there are some.
    """
    flat = {key: value for key, value in flatten(recipe).items() if value != "{}"}
    left_out = set(but)
    # Statistics of BatchNorm that are taken anew are a mean over batches, of this size.
    averaged = flat.get("model.batch_norm") == "recompute"
    found = {
        key: value
        for key, value in flat.items()
        if (averaged and key == "eval_batch_size") or role_of(key) not in left_out
    }
    for key in [key for key in found if key.startswith("trainer.")]:
        if found[key] is None or found[key] in USUAL.get(key, ()):
            del found[key]
    found.pop(f"methods.{PLAIN}", None)  # it does nothing
    methods, callbacks = recipe.get("methods"), recipe.get("callbacks")
    names = methods if isinstance(methods, Mapping) else ()
    if callbacks and isinstance(callbacks, Mapping):
        found["callbacks"] = ",".join(callbacks)
    return found | {"methods": ",".join(name for name in names if name != PLAIN)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; a mapping without keys stays one.

    >>> flatten({"a": {"b": 1, "c": {}}})
    {'a.b': 1, 'a.c': '{}'}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            plain = value is None or isinstance(value, str | int | float)
            flat[f"{prefix}{key}"] = value if plain else json.dumps(value, default=str)
    return flat
