"""Methods, by name. A new one is a file here and a row in the table."""

from __future__ import annotations

from collections.abc import Mapping

from clbench.errors import ClbenchError
from clbench.methods.base import Method, overriding
from clbench.methods.ewc import EWC
from clbench.methods.fisher import EWCMerge, FisherMerge
from clbench.methods.flow import FLOW
from clbench.methods.gem import AGEM, GEM
from clbench.methods.head_refit import HeadRefit
from clbench.methods.hft import HFT
from clbench.methods.linear_probe import LinearProbe
from clbench.methods.lora import LoRA
from clbench.methods.merge import TIES, TaskArithmetic
from clbench.methods.mofo import MoFO
from clbench.methods.multitask import Multitask
from clbench.methods.penalty import L1, L2
from clbench.methods.replay import Replay
from clbench.methods.sequential import Sequential
from clbench.methods.sfa import SFA
from clbench.methods.wise_ft import WiSEFT

METHODS: dict[str, type[Method]] = {
    "sequential": Sequential,
    "multitask": Multitask,
    "linear_probe": LinearProbe,
    "flow": FLOW,
    "head_refit": HeadRefit,
    "sfa": SFA,
    "wise_ft": WiSEFT,
    "task_arithmetic": TaskArithmetic,
    "ties": TIES,
    "l1": L1,
    "l2": L2,
    "ewc": EWC,
    "ewc_merge": EWCMerge,
    "fisher_merge": FisherMerge,
    "replay": Replay,
    "gem": GEM,
    "agem": AGEM,
    "mofo": MoFO,
    "hft": HFT,
    "lora": LoRA,
}

#: Methods that live on what earlier tasks left behind.
PAST = ("ewc", "ewc_merge", "fisher_merge", "replay", "gem", "agem")

#: Pairs that make no sense together, and why.
CLASHES = {
    ("linear_probe", "lora"): "a linear probe freezes what LoRA trains",
    ("linear_probe", "hft"): "a linear probe freezes every block already",
    ("sfa", "lora"): "SFA averages weights, and LoRA trains factors of them; wise_ft with anchor: "
    "previous averages LoRA's merged weights at the end of a task",
    ("gem", "agem"): "both project the gradient against a memory of past tasks",
    **{
        (name, "lora"): f"{name} averages weights, and LoRA trains factors of them"
        for name in ("ewc_merge", "fisher_merge")
    },
    **{
        (merging, name): f"{name} merges with the previous task's weights, where {merging} starts "
        "every task from the pretrained ones"
        for merging in ("task_arithmetic", "ties")
        for name in ("ewc_merge", "fisher_merge")
    },
    **{
        ("multitask", name): "multitask training has no past task, as it learns all at once"
        for name in PAST
    },
}


def name_of(method: Method) -> str:
    """What a method is called in a recipe."""
    kind = type(method)
    return next((name for name, known in METHODS.items() if known is kind), kind.__name__.lower())


def refuse_clashes(methods: Mapping[str, Method], optimizer: str, independent: bool) -> None:
    """Refuse methods that cannot go together.

    Args:
        methods: by name, in the recipe's order.
        optimizer: the recipe's optimiser.
        independent: whether every task starts from the pretrained weights.

    Raises:
        ClbenchError: naming the methods and the reason.
    """
    if "sequential" in methods and len(methods) > 1:
        raise ClbenchError(
            "methods: sequential is plain fine-tuning, alone; leave it out beside "
            + ", ".join(name for name in methods if name != "sequential")
        )
    for (one, other), reason in CLASHES.items():
        if one in methods and other in methods:
            raise ClbenchError(f"methods: {one} and {other} do not go together: {reason}")
    rewinding = [name for name, method in methods.items() if method.rewinds]
    if len(rewinding) > 1:
        raise ClbenchError(
            f"methods: {' and '.join(rewinding)} both rewind every task to the pretrained "
            "weights and merge afterwards; choose one"
        )
    own = [name for name, method in methods.items() if overriding([method], "optimizer")]
    if len(own) > 1:
        raise ClbenchError(f"methods: {' and '.join(own)} each bring an optimiser; choose one")
    late = [name for name, method in methods.items() if method.first_task > 1]
    if "multitask" in methods and late:
        raise ClbenchError(
            f"methods: {late[0]} averages with the previous task's weights, and multitask training "
            f"has no past task, as it learns all at once; methods.{late[0]}.start_at: 1 averages "
            "with the pretrained ones"
        )
    if independent and late:
        raise ClbenchError(
            f"methods: {late[0]} averages with the previous task's weights, and with "
            f"stream.independent no task has any before it; methods.{late[0]}.start_at: 1 averages "
            "with the pretrained ones"
        )
    for name, method in methods.items():
        if method.optimizers and optimizer not in method.optimizers:
            known = " or ".join(method.optimizers)
            raise ClbenchError(
                f"methods: {name} is a rule for the updates of {known}: set optimizer.name: "
                f"{known}, not {optimizer}, and a learning rate that suits it"
            )
    pointless = [name for name in methods if name in (*PAST, "multitask") or name in rewinding]
    if independent and pointless:
        raise ClbenchError(
            f"methods: {', '.join(pointless)} needs tasks that follow each other, but with "
            "stream.independent every task starts anew; leave one of them out"
        )
