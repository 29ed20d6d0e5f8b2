"""What can be known before the first step fails before data is read, in one line."""

import copy

import pytest
import torch
from helpers import RECIPE, comparable
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.learner.trainer import make_trainer, quiet
from clbench.models import backbone
from clbench.models.batch_norm import untouched
from clbench.recipe.merging import merge
from clbench.recipe.recipe import Recipe, parse
from clbench.runner.preflight import preflight
from clbench.weights import snapshot

SMALL = {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}}


def try_out(folder, model=SMALL, size=32, **fields):
    quiet()
    base = {key: value for key, value in RECIPE.items() if key != "model"}
    recipe = parse(merge(copy.deepcopy(base), {"model": model, "images": {"size": size}} | fields))
    preflight(recipe, folder, make_trainer(recipe, 1))


def refused(folder, message, **fields):
    with pytest.raises(ClbenchError, match=message) as error:
        try_out(folder, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


def net(name, **options):
    return {"backbone": name, "weights": "none", "options": options}


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (net("deit_tiny_distilled_patch16_224", depth=1), 32, "one linear classifier"),
        (net("inception_v3"), 64, "'inception_v3' does not run on 64 × 64 images: .*[Kk]ernel"),
        (net("resnet10t", in_chans=1), 32, "in_chans.*does not run on 32 × 32 images"),
        (net("resnet10t", global_pool=""), 64, "does not run on 64 × 64 images"),
        (net("resnet10t", features_only=True), 64, "features_only.*cannot be built"),
        (net("resnet10t", num_classes=9), 64, "num_classes = 9 is set by clbench"),
        (net("resnet10t", bogus=9), 64, "bogus"),
        (net("resnet10q"), 32, "'resnet10q' is no timm model; near it: .*resnet10t"),
        (net("tiny_cnn") | {"weights": "gone.pth"}, 32, "no file gone.pth"),
        (net("resnet10t") | {"weights": "of_nobody"}, 32, "'of_nobody' are no weights of"),
    ],
    ids=str,
)
def test_networks_that_do_not_go(tmp_path, model, size, message):
    refused(tmp_path, message, model=model, size=size)


class TwoHeads(nn.Module):
    """Logits are the mean of two heads; one of them is the classifier."""

    def __init__(self, num_classes, **_):
        super().__init__()
        self.fc, self.other = nn.Linear(3, num_classes), nn.Linear(3, num_classes)
        self.pretrained_cfg = {}
        self.result = "mean"

    def get_classifier(self):
        return self.fc

    def forward_features(self, images):
        return images.mean((2, 3))

    def forward_head(self, features, pre_logits=False):
        return features

    def forward(self, images):
        x = self.forward_features(images)
        mean = (self.fc(x) + self.other(x)) / 2
        return {"mean": mean, "tuple": (mean, mean), "wide": mean[:, :1]}[self.result]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("mean", "not those of its last layer on its features"),
        ("tuple", "gives tuple for an image of 2 classes"),
        ("wide", r"gives \(1, 1\) for an image of 2 classes"),
    ],
)
def test_a_network_whose_logits_are_not_of_one_head(tmp_path, monkeypatch, result, message):
    def create(config, classes, size, tag=None):
        made = TwoHeads(classes)
        made.result = result
        return made

    monkeypatch.setattr(backbone, "create", create)
    refused(tmp_path, message)


@pytest.mark.parametrize(
    "name", ["tiny_vit", "resnet10t", "tf_efficientnet_lite0", "test_convnext"]
)
def test_networks_that_go(tmp_path, name):
    try_out(tmp_path, net(name))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_clipping_goes_with_every_precision(tmp_path, precision, algorithm, optimizer):
    clip = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": algorithm}
    trainer = RECIPE["trainer"] | {"precision": precision} | clip
    try_out(tmp_path, optimizer={"name": optimizer}, trainer=trainer)


@pytest.mark.parametrize(
    "methods", [["lora"], ["hft"], ["mofo"], ["linear_probe"], ["gem"], ["flow", "sfa"]], ids=str
)
def test_methods_go(tmp_path, methods):
    fields = {"optimizer": {"name": "adamw"}, "methods": {name: {} for name in methods}}
    trainer = {"precision": "bf16-mixed", "gradient_clip_val": 1, "accumulate_grad_batches": 3}
    try_out(tmp_path, trainer=RECIPE["trainer"] | trainer, **fields)


def test_what_surgery_refuses(tmp_path):
    refused(tmp_path, "lora.targets: 'x.*' matches no", methods={"lora": {"targets": ["x.*"]}})


def test_a_step_that_fails_is_one_line_with_its_settings(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("derivative for\nthis is not implemented")

    monkeypatch.setattr("clbench.learner.learner.Learner.on_before_optimizer_step", fails)
    refused(
        tmp_path, "'tiny_cnn'.* cannot be trained on 32 × 32 .*accelerator.*derivative for this"
    )


def test_batches_that_batch_norm_cannot_take(tmp_path):
    said = refused(tmp_path, "batch_size = 1: ", model=net("resnet10t"), size=32, batch_size=1)
    assert "at least 2" in said
    try_out(tmp_path, net("resnet10t"), 32, batch_size=1, methods={"linear_probe": {}})
    try_out(tmp_path, net("resnet10t"), 64, batch_size=1)  # 2 × 2 values are left at the end
    try_out(tmp_path, batch_size=1)


def test_a_disk_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    refused(tmp_path, "0 MB are free there, and the weights alone")


def test_a_folder_that_is_gone(tmp_path):
    refused(tmp_path / "gone", "cannot be used: No such file")


def test_it_comes_before_the_data(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "build_stream", lambda *_: pytest.fail("images were read"))
    recipe["model"] = net("resnet10t", in_chans=1)
    with pytest.raises(ClbenchError, match="does not run on 8 × 8"):
        clbench.run(recipe, tmp_path / "run")


def test_it_leaves_no_trace(recipe, tmp_path, monkeypatch, no_pictures):
    recipe |= {"model": net("tiny_vit", drop_rate=0.2), "images": {"size": 16}, "steps": 2}
    recipe["stream"] = recipe["stream"] | {"first_tasks": 1}
    tried = clbench.run(recipe, tmp_path / "tried")
    monkeypatch.setattr("clbench.runner.setup.preflight", lambda *_: 1)
    untried = clbench.run(recipe, tmp_path / "untried")
    assert comparable(tried) == comparable(untried)
    weights = [(r.folder / "model.safetensors").read_bytes() for r in (tried, untried)]
    assert weights[0] == weights[1]


def test_generators_are_as_before(tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    try_out(tmp_path, net("tiny_vit", drop_rate=0.5), methods={"lora": {}})
    assert torch.equal(torch.rand(3), wanted)


def test_trying_a_batch_leaves_the_network_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    before = snapshot(model)
    with untouched(model):
        model.train()
        model(torch.rand(2, 3, 5, 5))
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


@pytest.mark.parametrize("logits", ["task", "seen"])
def test_tasks_of_one_class_are_said(recipe, tmp_path, capsys, no_pictures, logits):
    recipe |= {"train_logits": logits, "steps": 1}
    recipe["model"] = SMALL
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6]], "train_per_class": 10}
    record = clbench.run(recipe, tmp_path / "run")
    said = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
    assert len(said) == len(record.run.warnings) == (logits == "task")
    for line in (*said, *record.run.warnings):
        assert "of one class alone, the loss is 0" in line
        assert "train_logits: seen" in line


@pytest.mark.parametrize("started", ["torchrun", "srun"])
def test_processes_that_others_started_try_it_out_too(tmp_path, monkeypatch, started):
    variables = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1}
    variables |= {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    if started == "srun":
        variables = {"NTASKS": 2, "NNODES": 1, "PROCID": 1, "LOCALID": 1, "NODEID": 0, "STEP_ID": 0}
        variables |= {"NTASKS_PER_NODE": 2}
        variables = {f"SLURM_{name}": n for name, n in variables.items()}
        variables["SLURM_JOB_NAME"] = "clbench"
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    # Lightning notes here which process this is; for the tests that follow, it is the first again.
    monkeypatch.setattr(rank_zero_only, "rank", rank_zero_only.rank)
    try_out(tmp_path, trainer={"accelerator": "cpu"})
