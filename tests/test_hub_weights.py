"""`model.weights: hf-hub:user/name`: fetched once, read without running anything, then offline."""

import json
import pickle
from contextlib import suppress

import pytest
import timm
import torch
from helpers import interrupt_after
from safetensors.torch import save
from timm.models import save_for_hf

import clbench
from clbench.errors import ClbenchError
from clbench.estimate.needed import outline, retained
from clbench.measure.retention_sets import plan_sets
from clbench.models import backbone
from clbench.models.missing import missing_weights
from clbench.models.settings import ModelConfig
from clbench.recipe.merging import merge
from clbench.recipe.recipe import parse
from clbench.record.record import Record
from clbench.weights import sha256

WEIGHTS = "hf-hub:me/birds"
NAMES = ["owl", "wren", "crow"]
ABOUT = {
    "architecture": "tiny_cnn",
    "num_classes": 3,
    "label_names": NAMES,
    "model_args": {"width": 8},
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.4], "crop_pct": 0.875},
}


def state(seed=0):
    torch.manual_seed(seed)
    return dict(timm.create_model("tiny_cnn", num_classes=3, width=8).state_dict())


def files(seed=0, **about):
    config = json.dumps(ABOUT | about).encode()
    return {"config.json": config, "model.safetensors": save(state(seed))}


def config(weights=WEIGHTS, **more):
    given = {"backbone": "tiny_cnn", "options": {"width": 8}} | more
    return ModelConfig.model_validate(given | {"weights": weights})


def refused(weights=WEIGHTS, **more):
    with pytest.raises(ClbenchError) as error:
        backbone.load(config(weights, **more), 4, 8)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "names no repository"),
        ("birds", "names no repository"),
        ("me/birds/more", "names no repository"),
        ("../birds", "letters, digits"),
        ("me/..", "letters, digits"),
        ("me/my birds", "letters, digits"),
        ("me/a--b", "letters, digits"),
        ("me/x.git", ".git"),
        ("me/" + "x" * 97, "97 characters"),
        ("me/birds@", "names no branch"),
        ("me/birds@../main", "names no branch"),
        ("me/birds@a@b", "names no branch"),
        ("me/birds?x=1", "letters, digits"),
        ("/etc/passwd", "names no repository"),
    ],
)
def test_malformed_names_are_refused_when_a_recipe_is_read(recipe, name, words):
    with pytest.raises(ClbenchError) as error:
        parse(merge(recipe, {"model": {"weights": f"hf-hub:{name}"}}))
    assert "model.weights" in str(error.value)
    assert words in str(error.value)


def test_weights_head_and_normalisation_are_the_repository_s(hub, capsys):
    commit = hub.put("me/birds", files())
    found = backbone.load(config(), 4, 8)
    own = state()
    assert found.source == f"{WEIGHTS}@{commit}"
    assert found.sha256 == sha256(own)
    assert (found.mean, found.std, found.crop_pct) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.4), 0.875)
    assert torch.equal(found.head.weight, own["fc.weight"])
    assert found.model.fc.out_features == 4
    assert torch.equal(found.model.conv1.weight, own["conv1.weight"])
    assert capsys.readouterr().out.count("Fetching") == 1


def test_what_was_fetched_needs_no_network(hub, monkeypatch):
    commit = hub.put("me/birds", files())
    first = backbone.load(config(), 4, 8)
    hub.asked.clear()
    again = backbone.load(config(f"{WEIGHTS}@{commit}"), 4, 8)
    assert hub.asked == []  # a commit never changes
    assert missing_weights(config()) is None
    hub.close()
    offline = backbone.load(config(), 4, 8)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told = backbone.load(config(), 4, 8)
    assert first.sha256 == again.sha256 == offline.sha256 == told.sha256
    assert offline.source == first.source
    assert "cannot be reached, and is not on this machine" in refused("hf-hub:me/other")


def test_main_is_what_it_is_now_and_a_commit_what_it_was(hub):
    old = hub.put("me/birds", files())
    first = backbone.load(config(), 4, 8)
    new = hub.put("me/birds", files(1))
    assert backbone.load(config(), 4, 8).source == f"{WEIGHTS}@{new}"
    assert backbone.load(config(f"{WEIGHTS}@{old}"), 4, 8).sha256 == first.sha256


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"architecture": "resnet18"}, "say model.backbone: resnet18"),
        ({"architecture": "../../x"}, "not of tiny_cnn"),
        ({"architecture": 3}, "config.json: architecture = 3"),
        ({"architecture": "x" * 500}, "config.json: architecture"),
        ({"pretrained_cfg": {"std": [0, 0.5, 0.5]}}, "pretrained_cfg.std"),
        ({"pretrained_cfg": {"mean": [float("nan"), 0, 0]}}, "pretrained_cfg.mean"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "pretrained_cfg.mean"),
        ({"pretrained_cfg": {"label_offset": -1}}, "label_offset"),
        ({"pretrained_cfg": []}, "pretrained_cfg"),
        ({"num_classes": 10**400}, "whole number of"),
        ({"label_names": {"0": ["a"]}}, "label_names"),
    ],
)
def test_a_config_that_is_none_of_this_network_is_refused(hub, about, words):
    hub.put("me/birds", files(**about))
    assert words in refused()
    assert not [path for _, path in hub.asked if path.endswith("safetensors")]  # not even asked for


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"{", "is no JSON"),
        (b"[1]", "config.json"),
        (b'{"model_type": "vit"}', "architecture"),
        (b" " * (5 << 20), "more than 4,194,304"),
    ],
)
def test_a_config_that_is_no_config_is_refused(hub, content, words):
    hub.put("me/birds", files() | {"config.json": content})
    assert words in refused()


def test_a_pickle_is_never_read(hub, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    bomb = pickle.dumps(Bomb())
    about = {"config.json": files()["config.json"]}
    hub.put("me/bin", about | {"pytorch_model.bin": bomb})
    assert "has no model.safetensors, and nothing else is read" in refused("hf-hub:me/bin")
    hub.put("me/masked", about | {"model.safetensors": bomb})
    assert "is no safetensors" in refused("hf-hub:me/masked")
    hub.put("me/cut", about | {"model.safetensors": files()["model.safetensors"][:-9]})
    assert "cannot be read" in refused("hf-hub:me/cut")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_there_is_said(hub, monkeypatch, tmp_path):
    assert f"there is no {hub.address}/me/birds, or it is private" in refused()
    hub.put("me/birds", {"model.safetensors": b""})
    assert "has no config.json, which timm's loader reads" in refused()
    assert "has no revision v9" in refused(f"{WEIGHTS}@v9")
    hub.put("me/secret", files())
    hub.private["me/secret"] = True
    assert backbone.load(config("hf-hub:me/secret"), 4, 8)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    assert "or it is private" in refused("hf-hub:me/secret")


def test_a_dry_run_says_what_is_to_be_fetched(hub, recipe):
    hub.put("me/birds", files())
    given = parse(merge(recipe, {"model": {"weights": WEIGHTS, "options": {"width": 8}}}))
    (missing, *_), asked = [missing_weights(given.model)], len(hub.asked)
    assert (missing.what, missing.fetched) == (WEIGHTS, True)
    assert f"from {hub.address}/me/birds" in missing.how
    stream, needed = outline(given)
    told = retained(given, stream, needed, missing)
    assert told.why == ("retention is not counted, as its weights are not here",)
    assert len(hub.asked) == asked == 0  # nothing is fetched


def test_rows_that_timm_passes_over_are_passed_over(hub):
    about = ABOUT["pretrained_cfg"] | {"label_offset": 1, "classifier": "fc"}
    hub.put("me/birds", files(num_classes=2, pretrained_cfg=about))
    head = backbone.load(config(), 4, 8).head
    assert torch.equal(head.weight, state()["fc.weight"][1:])


def test_a_config_of_one_level_is_read_as_timm_reads_it(hub):
    old = {"architecture": "tiny_cnn", "num_classes": 3, "labels": NAMES, "mean": [0.3] * 3}
    hub.put("me/birds", files() | {"config.json": json.dumps(old).encode()})
    found = backbone.load(config(), 4, 8)
    assert found.mean == (0.3,) * 3
    assert found.model.pretrained_cfg["label_names"] == tuple(NAMES)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_repositories_that_timm_made_load_as_in_timm(hub, tmp_path, name):
    """Of random weights, saved by timm's own writer."""
    save_for_hf(timm.create_model(name), tmp_path / name, safe_serialization=True)
    hub.put(f"timm/{name}", {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    weights = f"hf-hub:timm/{name}"
    theirs = timm.create_model(weights, pretrained=True).eval()
    ours = backbone.load(config(weights, backbone=name, options={}), 4, 160)
    about = timm.data.resolve_data_config(model=theirs)
    assert [*ours.mean, *ours.std] == [*about["mean"], *about["std"]]
    assert ours.crop_pct == about["crop_pct"]
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        features = backbone.features(ours.model.eval(), images)
        assert torch.equal(ours.head(features), theirs(images))


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        image = torch.zeros(1)  # its content is not looked at
        (root / name / "1.png").write_bytes(image.numpy().tobytes())
    return str(root)


def test_the_original_head_is_asked_about_classes_that_it_names(tmp_path, recipe):
    def plan(about, **retention):
        return plan_sets(parse(recipe | {"retention": retention}), 3, about)

    root, others = folders(tmp_path / "a", "crow", "owl"), folders(tmp_path / "b", "cat")
    labels = {"label_names": tuple(NAMES)}
    made = plan(labels, data="none", sets={"birds": {"data": root}})
    assert made.sets[0].head
    assert made.sets[0].labels.tolist() == [2, 0]  # crow and owl
    assert made.sets[0].rows is None  # all compete
    assert plan(labels, data=root).sets[0].labels.tolist() == [2, 0]
    some = folders(tmp_path / "c", "owl", "cat")
    told = plan(labels, data="none", sets={"birds": {"data": some}}).reasons
    assert "has none for cat" in told[0]
    for given in ({"data": others}, {"data": "none", "sets": {"cats": {"data": others}}}):
        with pytest.raises(ClbenchError, match=r"are of no class of the original head \(owl"):
            plan(labels, **given)
    with pytest.raises(ClbenchError, match="no head of the 1,000 ImageNet classes"):
        plan({}, data=root)


def test_a_run_goes_on_with_the_same_weights_only(hub, recipe, tmp_path, monkeypatch, no_pictures):
    commit = hub.put("me/birds", files())
    values = merge(
        recipe,
        {
            "stream": {"classes": [[4, 5], [6, 7]], "pretrain_classes": []},
            "model": {"weights": WEIGHTS},
            "steps": 2,
        },
    )
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        interrupt_after(patch)
        clbench.run(values, tmp_path / "run")
    record = Record.load(tmp_path / "run")
    assert record.run.weights.source == f"{WEIGHTS}@{commit}"
    assert record.run.weights.sha256 == sha256(state())
    hub.put("me/birds", files(1))
    with pytest.raises(ClbenchError, match="weights"):
        clbench.run(values, tmp_path / "run", resume=True)
    hub.put("me/birds", files())
    assert clbench.run(values, tmp_path / "run", resume=True).finished
