import pytest
import yaml

from clbench.cli.arguments import read_arguments, values
from clbench.errors import ClbenchError
from clbench.recipe.merging import merge
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import commented, find, read, read_text

BASE = {
    "stream": {"name": "split_digits"},
    "model": {"backbone": "tiny_cnn", "weights": "none"},
    "epochs": 1,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, r"unknown key sead \(did you mean seed\?\)"),
        ({"stream": {"taks": 2}}, r"unknown key stream.taks \(did you mean stream.tasks\?\)"),
        ({"lr": 0.1}, r"unknown key lr \(did you mean .*lr\?\)"),
        ({"methods": {"sfq": {}}}, r"there is no method 'sfq' \(did you mean sfa\?\)"),
        ({"methods": {"sfa": {"pp": 1}}}, r"methods.sfa.pp \(did you mean methods.sfa.p\?\)"),
        ({"methods": {"sfa": {"p": 1.5}}}, r"methods.sfa.p = 1.5: .*less than or equal to 1"),
        ({"methods": {"sfa": {"p": "much"}}}, r"methods.sfa.p = 'much': .*number"),
        ({"methods": ["sfa"]}, r"methods.*must map names to settings"),
        ({"stream": {"name": "cifar"}}, r"there is no stream 'cifar'"),
        ({"seed": "one"}, r"seed = 'one': .*integer"),
        ({"optimizer": {"lr": -1}}, r"optimizer.lr = -1: .*greater than 0"),
        ({"steps": 5}, "either epochs or steps"),
        ({"trainer": {"devces": 2}}, r"devces = 2: .*no such argument \(did you mean devices\?\)"),
        ({"trainer": {"max_epochs": 2}}, "max_epochs = 2: is set by clbench: use epochs"),
        (
            {"trainer": {"strategy": "ddp_spawn"}},
            "'ddp_spawn': loses the state of methods: use ddp",
        ),
        ({"trainer": {"strategy": "fsdp"}}, "trainer.strategy = 'fsdp': is not supported: "),
        ({"methods": {"sequential": {}, "sfa": {}}}, "sequential is plain fine-tuning, alone"),
        ({"per_task": {"a": {"seed": 1}}}, "a.seed cannot differ between tasks"),
        (
            {"stream": {"name": "split_cifar10"}, "model": BASE["model"] | {"weights": "pretrain"}},
            "needs stream.pretrain_classes.*; name some, or say model.weights: none",
        ),
        (
            {"stream": {"name": "transfer6"}, "model": BASE["model"] | {"weights": "pretrain"}},
            "this stream has none: say model.weights: none",
        ),
    ],
)
def test_one_clear_line_for_every_mistake(changes, message):
    raw = BASE | changes
    if "stream" in changes:
        raw["stream"] = BASE["stream"] | changes["stream"]
    with pytest.raises(ClbenchError, match=message) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


def test_methods_keep_their_order_and_take_null_for_no_settings():
    recipe = parse(BASE | {"methods": {"sfa": None, "linear_probe": {}}})
    assert list(recipe.methods) == ["sfa", "linear_probe"]


def test_a_resolved_recipe_reads_back_as_it_was():
    recipe = parse(BASE | {"methods": {"sfa": {"p": 0.5}}, "trainer": {"devices": 1}})
    assert parse(recipe.model_dump(mode="json")) == recipe
    assert parse(yaml.safe_load(commented(recipe))) == recipe


def test_merge_starts_a_renamed_section_anew():
    base = {"stream": {"name": "split_digits", "tasks": 2}, "optimizer": {"lr": 1}}
    merged = merge(base, {"stream": {"name": "split_mnist"}, "optimizer": {"momentum": 0}})
    assert merged == {"stream": {"name": "split_mnist"}, "optimizer": {"lr": 1, "momentum": 0}}


def test_merge_takes_out_methods_set_to_null_and_replaces_the_length():
    merged = merge({"methods": {"sfa": {}, "l2": {}}, "epochs": 3}, {"methods": {"sfa": None}})
    assert merged["methods"] == {"l2": {}}
    assert merge({"epochs": 3}, {"steps": 5}) == {"epochs": None, "steps": 5}
    probe = {"probe": {"epochs": 3}}  # a section that has no steps
    assert merge({"probe": {}}, probe) == merge({"probe": {"epochs": 9}}, probe) == probe


def test_settings_of_one_task():
    changes = {"4, 5": {"steps": 3, "optimizer": {"lr": 0.5}}}
    recipe = parse(BASE | {"per_task": changes, "optimizer": {"momentum": 0.5}})
    own = recipe.for_task("4, 5")
    assert (own.steps, own.epochs) == (3, None)
    assert (own.optimizer.lr, own.optimizer.momentum) == (0.5, 0.5)
    assert recipe.for_task("6, 7") is recipe


def test_command_line_sets_every_field(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(yaml.safe_dump(BASE | {"methods": {"sfa": {"p": 0.5}}}))
    two.write_text("optimizer: {lr: 1e-3}\nseed: 4\n")
    words = f"--config {one} {two} --methods.sfa.beta 0.25 --seed=7 --stream.download false"
    recipe = parse(values(read_arguments(words.split())))
    assert recipe.methods["sfa"].model_dump() == {
        "p": 0.5,
        "beta": 0.25,
        "start_at": 2,
        "new_rows": "keep",
    }
    assert (recipe.seed, recipe.optimizer.lr, recipe.stream.download) == (7, 1e-3, False)


def test_bare_names_are_found_in_configs():
    assert find("default").name == "default.yaml"
    assert read("default.yaml")["stream"]["name"] == "split_digits"
    with pytest.raises(ClbenchError, match=r"no config '0'; configs/ has .*default.yaml, field/"):
        find("0")
    with pytest.raises(ClbenchError, match=r"no config 'defualt'; did you mean default"):
        find("defualt")
    with pytest.raises(ClbenchError, match=r"'nosuch.yaml'; configs/ has"):
        find("nosuch.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "mine, line"),
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_yaml_is_read_safely(text, message):
    with pytest.raises(ClbenchError, match=message):
        read_text(text, "mine")


@pytest.mark.parametrize(
    "path", sorted(find("default").parent.rglob("*.yaml")), ids=lambda p: p.stem
)
def test_every_config_that_comes_along_is_valid(path):
    parse(read(str(path)))


def test_a_file_goes_on_from_one_beside_it(tmp_path):
    files = {
        "base": "stream: {name: split_digits}\nmethods: {sfa: {p: 0.9}}\nepochs: 3\n",
        "middle": "extends: base.yaml\noptimizer: {lr: 0.5}\nmethods: {ewc: {}}\n",
        "top": "extends: middle\nsteps: 7\nmethods: {sfa: null}\n",
        "round": "extends: round\n",
        "there": "extends: back\n",
        "back": "extends: there\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    values = read(str(tmp_path / "top.yaml"))
    assert values == {
        "stream": {"name": "split_digits"},
        "methods": {"ewc": {}},
        "optimizer": {"lr": 0.5},
        "epochs": None,
        "steps": 7,
    }
    for name in ("round", "there"):
        with pytest.raises(ClbenchError, match="extends comes back to the file itself"):
            read(str(tmp_path / name))
    for name in ("../top", "/etc/passwd", "''", "[a]", "sub/top", "missing"):
        (tmp_path / "odd.yaml").write_text(f"extends: {name}\n")
        with pytest.raises(
            ClbenchError, match=r"write the name of one file|there is no config"
        ) as e:
            read(str(tmp_path / "odd.yaml"))
        assert len(str(e.value).splitlines()) == 1
