"""Kinds of methods, and what goes with none of a kind."""

import pytest

from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.methods.low_rank import LowRankUpdates
from clbench.methods.prompts import PromptMethod
from clbench.recipe.recipe import parse

VIT = {"backbone": "vit_base_patch16_224", "weights": "none"}
BASE = {"stream": {"name": "split_digits"}, "model": VIT, "epochs": 1}
FROZEN = ("bitfit", "ln_only", "spu", "gpm", "aper", "linear_probe")
AVERAGED = ("sfa", "fisher_merge", "cofima", "ewc_merge", "si", "rwalk")


def test_each_method_of_a_kind_is_named():
    for kind, names in ((PromptMethod, PROMPTS), (LowRankUpdates, LOW_RANK)):
        assert {name for name, method in METHODS.items() if issubclass(method, kind)} == {*names}


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        (PROMPTS, (*PROMPTS, *LOW_RANK, *FROZEN, "freeze")),
        (LOW_RANK, (*LOW_RANK, *FROZEN, *AVERAGED)),
    ],
)
def test_what_goes_with_none_of_a_kind(kind, others):
    for one in kind:
        for other in {*others} - {one}:
            with pytest.raises(ClbenchError, match="do not go together"):
                parse(BASE | {"methods": {one: {}, other: {}}})
