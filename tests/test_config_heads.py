"""The heads of shipped recipes and suites: what they claim, by which score, at which settings."""

import re
from pathlib import Path

import pytest

from clbench.methods.mofo import MoFO
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import read_mapping
from clbench.suite.suite import expand

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SUITES = sorted((ROOT / "suites").glob("*.yaml"))
#: Which of the accuracies: without one of these words a number or an order can mean several.
SCORES = re.compile(r"task-incremental|class-incremental|learning accurac|retention")


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def head(path):
    lines = path.read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def fields(path):
    """The keyed lines of a head, each with those that go on with it."""
    found, key = {}, None
    for line in head(path).splitlines():
        keyed = re.match(r"#   (\w\S*) +(.*)", line)
        if keyed:
            key = keyed[1]
            found[key] = keyed[2]
        elif key and line.startswith("#    "):
            found[key] += " " + line[1:].strip()
        else:
            key = None
    return found


def all_fields(path):
    """The keyed lines of a head, and those of the files that it goes on from."""
    base = re.search(r"^extends: (\w+)", path.read_text(), re.MULTILINE)
    return (all_fields(path.with_name(f"{base[1]}.yaml")) if base else {}) | fields(path)


@pytest.mark.parametrize("path", CONFIGS, ids=ids(CONFIGS))
def test_shipped_recipes_parse(path):
    assert parse(read_mapping(path))


@pytest.mark.parametrize("path", SUITES, ids=ids(SUITES))
def test_shipped_suites_parse(path):
    assert expand(read_mapping(path), path.stem).runs


@pytest.mark.parametrize("path", [*CONFIGS, *SUITES], ids=ids([*CONFIGS, *SUITES]))
def test_what_is_expected_names_its_score(path):
    found = fields(path)
    if "expected" in found:
        assert SCORES.search(found.get("score", "")), f"{path.name} does not say of which accuracy"
        assert "paper" in found


def test_a_head_without_a_score_is_found(tmp_path):
    path = tmp_path / "made_up.yaml"
    path.write_text(
        "# A.\n#\n#   paper     B\n#   expected  a > b,\n#             b > c\nsteps: 1\n"
    )
    assert fields(path) == {"paper": "B", "expected": "a > b, b > c"}
    assert not SCORES.search(fields(path).get("score", ""))


@pytest.mark.parametrize("path", CONFIGS, ids=ids(CONFIGS))
def test_a_head_speaks_of_the_methods_that_its_recipe_has(path):
    methods, told = parse(read_mapping(path)).methods, head(path)
    assert "mofo" in methods or "MoFO's share" not in told
    assert "replay" in methods or "replayed" not in told
    if "multitask" in methods:  # one stage: nothing is learned before anything else
        assert "BWT" not in told or "no BWT" in told


@pytest.mark.parametrize("path", CONFIGS, ids=ids(CONFIGS))
def test_recipes_of_papers_measure_what_is_kept_as_far_as_the_weights_allow(path):
    recipe = parse(read_mapping(path))
    of_paper = "paper" in fields(path)
    assert not of_paper or not recipe.retention.off
    if recipe.model.weights.endswith("in21k"):
        assert list(recipe.retention.measures) == ["head", "knn", "ridge"]
        told = all_fields(path)["retention"]
        assert all(word in told for word in ("in21k head", "kNN", "ridge probe"))


def test_the_pages_count_the_methods_of_the_suite():
    methods = read_mapping(ROOT / "suites" / "imagenet_forgetting.yaml")["methods"]
    count = len({str(settings) for settings in methods.values()})
    for page in ("docs/use.md", "docs/results/README.md"):
        (found,) = re.findall(r"(\d+) methods(?:\]| on five tasks)", (ROOT / page).read_text())
        assert int(found) == count


def test_averages_of_flows_table_are_means_of_its_columns():
    row = r"([\d.]+) %, +([\d.]+) %, +([\d.]+) %"
    found = []
    for path in CONFIGS:
        if path.parent.name == "flow":
            found += re.findall(row, fields(path).get("expected", ""))
    row = r"^#   \w+ +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$"
    for both in re.findall(row, head(ROOT / "suites" / "flow.yaml"), re.MULTILINE):
        found += [both[:3], both[3:]]
    assert len(found) == 24
    for kept, learned, average in found:
        assert float(average) == pytest.approx((float(kept) + float(learned)) / 2, abs=0.0051)


def paper(folder):
    return {p.stem: parse(read_mapping(p)) for p in CONFIGS if p.parent.name == folder}


def test_mofos_settings_are_those_of_its_tables():
    for name, recipe in paper("mofo").items():
        table = int(name[5]) if name.startswith("table") else 5
        share, rate, batch = {
            3: (0.15, 2e-5, 128),
            4: (0.10, 2e-5, 64),
            5: (0.05, 1e-5, 64),
            6: (0.10, 2e-5, 128),
        }[table]
        assert (recipe.optimizer.name, recipe.optimizer.lr) == ("adamw", rate)
        assert recipe.optimizer.weight_decay == recipe.schedule.warmup == 0
        assert (recipe.schedule.name, recipe.batch_size) == ("cosine", batch)
        mofo = recipe.methods.get("mofo")
        assert not isinstance(mofo, MoFO) or mofo.fraction == share
        if "hft" in recipe.methods:
            assert recipe.methods["hft"].redraw == "step"
        if "l1" in recipe.methods:
            assert recipe.methods["l1"].strength == 1e-6
        if "l2" in recipe.methods:  # the paper's λ‖·‖² is (2λ/2)‖·‖²
            assert recipe.methods["l2"].strength == 2 * 1e-3
        # What is kept is measured: the weights have ImageNet's head.
        assert recipe.model.weights.endswith("_in1k")
        assert (recipe.stream.tasks == 1) == (table != 5)


def test_sfas_methods_are_compared_at_equal_steps():
    recipes = paper("sfa")
    steps = {name: recipe.steps for name, recipe in recipes.items() if name != "multitask"}
    assert set(steps.values()) == {90}
    assert recipes["multitask"].steps == 20 * 90
    assert recipes["l2"].methods["l2"].anchor == "previous"
    assert recipes["task_arithmetic"].methods["task_arithmetic"].scale == "mean"


def test_flows_anchors_and_ranks():
    recipes = paper("flow")
    assert {r.methods["l2"].anchor for r in recipes.values() if "l2" in r.methods} == {"pretrained"}
    lora = recipes["flow_lora"].methods["lora"]
    assert (lora.rank, lora.alpha) == (64, 64)


def test_flows_frozen_trunks_have_batch_norm_as_the_authors_programs():
    recipes = paper("flow")
    assert recipes["linear_probe"].model.batch_norm_training == "update_all"
    probed = [r.model.probe for r in recipes.values() if r.model.head == "linear_probe"]
    assert probed
    assert {probe.batch_norm for probe in probed} == {"train"}


def test_the_fields_table_has_every_config_of_the_field():
    suite = read_mapping(ROOT / "suites" / "field.yaml")
    named = {settings["config"].removeprefix("field/") for settings in suite["methods"].values()}
    assert named == {path.name for path in (ROOT / "configs" / "field").glob("*.yaml")}
    runs = expand(suite, "field").runs
    assert {run.recipe.stream.name for run in runs} == {
        "split_cifar100",
        "split_imagenet_r",
        "split_cub200",
    }
    for run in runs:
        assert run.recipe.stream.tasks == 10
        assert run.recipe.model.weights.startswith(
            ("vit_base_patch16_224.augreg", "vit_base_patch16_clip_224.")
        )
