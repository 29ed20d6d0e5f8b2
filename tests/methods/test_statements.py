"""Methods say for themselves what others ask of them; nobody else knows one by its name."""

import ast
import itertools
import re
from pathlib import Path

import clips
import pytest
from clips import made

import clbench
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import Method, Needs
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.methods.statements import TRAITS, traits
from clbench.methods.together import refuse_clashes
from clbench.recipe.recipe import parse

VIT = {"backbone": "tiny_vit", "options": {"depth": 2, "embed_dim": 32, "num_heads": 2}}
PACKAGE = Path(clbench.__file__).parent
#: Modules of clbench.methods that are no method's.
COMMON = (
    *("", "base", "context", "files", "forward", "gradient_share", "kinds", "plan", "posthoc"),
    *("statements", "together"),
)
#: Where a word is a method's name too, and something else.
OTHERWISE = {
    ("record/baselines.py", "sequential"),  # what tables call plain fine-tuning
    ("record/baselines.py", "multitask"),  # and the bound
    ("models/settings.py", "linear_probe"),  # a value of model.head
    ("runner/tasks.py", "linear_probe"),
    ("recipe/per_task.py", "ema"),  # a field of the recipe
    ("report/confounds.py", "linear_probe"),
    ("metrics/retained/__init__.py", "ncm"),  # a measure of what is kept
    ("metrics/retained/__init__.py", "knn"),  # another
}
#: Lists of examples.
EXAMPLES = ("cli/cli.py",)


def centre():
    return [
        (path.relative_to(PACKAGE).as_posix(), path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "methods"
    ]


def words(path):
    """The texts in a module that are no documentation, also the constant parts of f-strings."""
    tree = ast.parse(path.read_text("utf-8"))
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_nothing_outside_knows_a_method_by_its_name():
    found = {
        (place, word)
        for place, path in centre()
        if place not in EXAMPLES
        for word in words(path)
        if word in METHODS
    }
    assert found <= OTHERWISE


@pytest.mark.parametrize("layer", ["runner", "sweep", "estimate", "learner", "measure"])
def test_nor_by_what_it_says(layer):
    names = [name for name in METHODS if name not in ("sequential", "linear_probe", "l1", "l2")]
    known = re.compile(rf"\b({'|'.join(names)})\b")
    found = {
        (place, word)
        for place, path in centre()
        if place.startswith(f"{layer}/")
        for word in words(path)
        if known.search(word)
    }
    assert not found


def test_nothing_outside_imports_a_method():
    for place, path in centre():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("clbench.methods"):
                assert module.removeprefix("clbench.methods").lstrip(".") in COMMON, place


class Plain(Method):
    summary = "nothing"


def refusal(methods, independent=False, optimizer="sgd"):
    with pytest.raises(ClbenchError) as caught:
        refuse_clashes(methods, optimizer, independent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Averse(Plain):
    clashes = {"sfa": "it cannot bear averages"}


class Alone(Plain):
    alone = "wants to be alone"


class Joint(Plain):
    joint = True


class Living(Plain):
    needs = Needs(past_tasks=True)


class Late(Plain):
    sooner = "from: 1 acts in all"

    @property
    def first_task(self):
        return 3


class Rewinding(Plain):
    rewinds = True


class Steps(Plain):
    def optimizer(self, parameters, settings):
        return None


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    ("mine", "name", "wanted"),
    [
        (Averse(), "sfa", "sfa.* do not go together: it cannot bear averages; choose one"),
        (Alone(), "flow", "own wants to be alone; leave it out beside flow"),
        (Living(), "multitask", "do not go together: multitask has no past task"),
        (Joint(), "ewc", "do not go together: own has no past task"),
        (Late(), "multitask", r"own acts from task 3 .*; methods\.own\.from: 1 acts in all"),
        (Rewinding(), "ties", "both rewind every task"),
        (Steps(), "mofo", "each bring an optimiser; choose one"),
    ],
)
def test_a_method_of_ones_own_is_refused_by_what_it_says(mine, name, wanted, order):
    pair = [("own", mine), (name, made(name))]
    assert re.search(wanted, refusal(dict(pair[::-1] if order else pair)))


@pytest.mark.parametrize("mine", [Joint(), Living(), Late(), Rewinding()])
def test_what_independent_tasks_leave_nothing_to(mine):
    assert "with stream.independent" in refusal({"own": mine}, independent=True)
    refuse_clashes({"own": mine}, "sgd", independent=False)


def test_an_optimiser_of_its_own_is_asked_for_nothing():
    refuse_clashes({"own": Steps(), "ewc": made("ewc")}, "sgd", independent=False)


@pytest.mark.parametrize(("one", "other"), itertools.combinations(METHODS, 2))
def test_refusals_do_not_depend_on_the_order(one, other):
    def refused(*names):
        try:
            refuse_clashes({n: made(n) for n in names}, "adamw", independent=False)
        except ClbenchError as error:
            return re.sub(rf"\b({one}|{other})\b", "NAME", str(error))
        return None

    assert refused(one, other) == refused(other, one)


@pytest.mark.parametrize(
    ("family", "alone"),
    [
        # From θ_*, what SD-LoRA has learned of past tasks has gone nowhere.
        (("lora", "inflora", "sd_lora"), {"task_arithmetic", "ties", "opcm"}),
        (("l2p", "dualprompt", "coda_prompt"), set()),
    ],
)
def test_what_one_of_a_family_does_not_go_with_the_others_do_not(family, alone):
    def against(one):
        said = {name for name, method in METHODS.items() if one in method.clashes}
        return (said | METHODS[one].clashes.keys()) - {*family} - alone

    assert against(family[0])
    for one in family[1:]:
        assert against(one) == against(family[0])


def test_clashes_name_methods():
    assert all(METHODS.keys() >= method.clashes.keys() for method in METHODS.values())


@pytest.mark.parametrize("kind", [LOW_RANK, PROMPTS])
def test_what_does_not_go_with_one_of_a_kind_goes_with_none(kind):
    networks = {"aper"}  # of its own pretrained network the prefixes are no part, as l2p's are
    for name, method in METHODS.items():
        named = method.clashes.keys() & set(kind)
        assert len(named) in (0, len(kind)) or name in networks, name


@pytest.mark.parametrize(
    ("methods", "model"),
    [
        ({"gpm": {}, "inflora": {}}, {}),
        ({"gpm": {}, "coda_prompt": {"blocks": [0], "pool": 8}}, VIT),
        ({"bitfit": {}, "dualprompt": {"g_blocks": [0], "e_blocks": [1]}}, VIT),
        ({"spu": {}, "sd_lora": {}}, VIT),
        ({"sd_lora": {}, "opcm": {}}, {}),
        ({"zscl": clips.settings(), "inflora": {}}, clips.model()),
        ({"hft": {}, "dualprompt": {"g_blocks": [0], "e_blocks": [1]}}, VIT),
        ({"aper": {"variant": "adapter", "tuned": "first"}, "ln_only": {}}, VIT),
        ({"aper": {"variant": "adapter", "tuned": "first"}, "spu": {}}, VIT),
    ],
    ids="+".join,  # values have paths of their own in each process
)
def test_methods_that_would_freeze_each_other_are_refused(recipe, methods, model):
    with pytest.raises(ClbenchError, match=r"do not go together|variant: full") as caught:
        parse(recipe | {"methods": methods, "model": recipe["model"] | model})
    assert "\n" not in str(caught.value)


def test_traits_are_what_the_class_says():
    assert traits(Plain) == []
    assert traits(METHODS["multitask"]) == ["joint"]
    assert set(TRAITS) == {trait for method in METHODS.values() for trait in traits(method)}


def test_records_keep_the_traits(recipe, tmp_path, no_pictures):
    record = clbench.run(recipe | {"methods": {"replay": {}, "sfa": {}}}, tmp_path / "run")
    assert record.run.traits == {"replay": ["class_incremental"], "sfa": ["averages"]}
