import pickle
import re

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from clbench import Record
from clbench.cli.cli import main
from clbench.methods import METHODS
from clbench.metrics.retained import MEASURES
from clbench.models import TRIED
from clbench.models.tiny import TinyCNN
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config over small image folders, in a working folder of its own."""
    for part in ("train", "test"):
        for number, name in enumerate(("ant", "bee", "cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (8, 8), (60 * number, 9 * i, 90)).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    values = {
        "stream": {
            "name": "image_folder",
            "train": "train",
            "test": "test",
            "tasks": 2,
            "validation": 0.0,
        },
        "images": {"size": 8},
        "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
        "steps": 1,
        "batch_size": 4,
        "trainer": {"accelerator": "cpu"},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def call(config, capsys):
    """Run the command line on the config: exit code, and the lines of both streams."""

    def run(*words, config=str(config)):
        code = main([*(("--config", config) if config else ()), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def one_line(result):
    """The message of a mistake: exit code 2, one line, no traceback."""
    code, _, err = result
    assert code == 2
    assert len(err) == 1, err
    assert err[0].startswith("error: ")
    return err[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--confg mine.yaml", r"unknown key confg \(did you mean --config\?\)"),
        ("--sead 1", r"unknown key sead \(did you mean seed\?\)"),
        ("--methods.sfa.pp 0.5", r"unknown key methods.sfa.pp \(did you mean methods.sfa.p\?\)"),
        ("--methods.sfq.p 0.5", r"no method 'sfq' \(did you mean sfa\?\)"),
        ("--trainer.devces 2", r"devces = 2: .*no such argument \(did you mean devices\?\)"),
        ("--seed one", "seed = 'one': .*integer"),
        ("--stream.tasks [2]", r"stream.tasks = \[2\] makes 2 classes"),
        ("--optimizer.lr fast", "optimizer.lr = 'fast': .*number"),
        ("--methods sfa", "methods = 'sfa'.* must map names to settings"),
        ("--stream 3", "stream.*needs a name"),
        ("--optimizer.lr -1", "optimizer.lr = -1: .*greater than 0"),
        ("--methods.sfa.p 1.5", "methods.sfa.p = 1.5: .*less than or equal to 1"),
        ("--stream.validation 1", "stream.validation = 1: .*less than 1"),
        ("--augment.scale [0.9,0.1]", r"augment.scale = \[0.9, 0.1\]: must be two numbers"),
        ("--stream.tasks 3", r"stream.tasks = 3 does not divide the stream's 4 classes"),
        ("--stream.train nowhere", "image folder nowhere does not exist"),
        ("--model.backbone resnet19", "'resnet19' is no timm model; near it: .*resnet18"),
        ("--model.weights tv_in1k", "'tv_in1k' are no weights of tiny_cnn"),
        ("--model.weights missing.pth", "there is no file missing.pth"),
        ("--model.options.width 6", "model.options = .* do not fit tiny_cnn"),
        ("--model.options.widht 8", "model.options = .* do not fit tiny_cnn: .*widht"),
        ("--retention.data nowhere", "retention.data = nowhere, but .* no head of the 1,000"),
        ("--data_dir mine.yaml", "image cache mine.yaml/cache cannot be written"),
        ("--output mine.yaml", "mine.yaml already holds another run or other files"),
        ("--output mine.yaml/run", "output folder mine.yaml/run cannot be written"),
        ("--output", "--output needs a value"),
        ("--resume --output train", "train already holds another run or other files"),
        ("--seed 1 2", "unexpected '2': options start with --"),
        ("--config nope", "there is no config 'nope'"),
        ("--seed [1", "--seed"),
        ("--seed 2 --seed.x 3", "seed was set to 2 before"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(call, words, message):
    assert re.search(message, one_line(call(*words.split())))


def test_resume_serves_a_job_that_may_be_requeued(call, tmp_path):
    """One command begins the run, goes on with it, and finds that it is finished."""
    words = ("--resume", "--output", "run")
    code, out, _ = call(*words)
    assert code == 0
    assert out[0] == "Nothing to resume in run: the run begins."
    before = (tmp_path / "run" / "record.jsonl").read_bytes()
    code, out, _ = call(*words)
    assert (code, out[0]) == (0, "The run in run is already finished.")
    assert (tmp_path / "run" / "record.jsonl").read_bytes() == before


def test_class_folder_without_images(call, tmp_path):
    (tmp_path / "train" / "elk").mkdir()
    assert re.search(r"class folders without images in .*train: elk", one_line(call()))


def test_corrupt_image(call, tmp_path):
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert "train/cat/1.png cannot be read as an image" in one_line(call())


def test_corrupt_image_that_is_read_while_training(call, tmp_path):
    (tmp_path / "train" / "ant" / "1.png").write_bytes(b"nothing")
    result = call("--images.keep", "files", "--steps", 2, "--output", "run")
    assert "train/ant/1.png cannot be read as an image" in one_line(result)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_corrupt_weights(call, tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    state = TinyCNN(5, width=8).state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    path.write_bytes(path.read_bytes()[:500])
    assert f"w.{kind} cannot be read" in one_line(call("--model.weights", f"w.{kind}"))


def test_weights_with_code(call, tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": print}))
    assert "w.pth cannot be read" in one_line(call("--model.weights", "w.pth"))


def test_mismatched_weights(call, tmp_path):
    save_file(TinyCNN(5, width=16).state_dict(), tmp_path / "w.safetensors")
    message = one_line(call("--model.weights", "w.safetensors"))
    assert "'w.safetensors' do not fit tiny_cnn: conv1.weight is (16, 3, 3, 3), not (8" in message


def test_config_that_is_no_yaml(call, config):
    config.write_text("stream: [1")
    assert re.search("mine.yaml, line", one_line(call()))
    config.write_text("- 1")
    assert "must be a mapping" in one_line(call())


def test_a_run_and_a_second_one_into_the_same_folder(call, tmp_path):
    code, out, _ = call("--output", "run")
    assert code == 0
    assert any("Files in run" in line for line in out)
    assert Record.load("run").finished
    before = (tmp_path / "run" / "record.jsonl").read_bytes()
    assert "run already holds another run" in one_line(call("--output", "run"))
    message = one_line(call("--output", "run", "--resume", "--seed", 5))
    assert "another recipe (different: seed)" in message
    assert (tmp_path / "run" / "record.jsonl").read_bytes() == before
    code, out, _ = call("--output", "run", "--resume", config=None)
    assert code == 0
    assert "already finished" in out[0]


def test_a_mended_mistake_can_use_the_same_output(call, tmp_path):
    (tmp_path / "test" / "cat").rename(tmp_path / "cat")
    assert "different classes" in one_line(call("--output", "run"))
    (tmp_path / "cat").rename(tmp_path / "test" / "cat")
    assert call("--output", "run")[0] == 0


def test_runs_get_folders_of_their_own(call, tmp_path):
    (tmp_path / "runs" / "image_folder-sfa-seed4").mkdir(parents=True)
    (tmp_path / "runs" / "image_folder-sfa-seed4" / "record.jsonl").touch()
    assert call("--methods.sfa.p", "0.5", "--seed", "4")[0] == 0
    summary = Record.load("runs/image_folder-sfa-seed4-2").summary()
    assert (summary["methods"], summary["seed"]) == (["sfa"], 4)


def test_list_has_a_line_for_everything(call):
    code, out, err = call("--list")
    assert (code, err) == (0, [])
    for name in (*STREAMS, *METHODS, *TRIED, *MEASURES):
        lines = [line for line in out if line.split()[:1] == [name]]
        assert len(lines) == 1 + (name in METHODS and name in MEASURES)  # ncm is both
        assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_field(call, word):
    code, out, err = call(word)
    assert (code, err) == (0, [])
    words = {line.split()[0] for line in out if line.strip()}
    fields = {"seed", "stream.tasks", "optimizer.lr", "methods.sfa.p", "images.size"}
    assert fields <= words
    assert max(map(len, out)) <= 100


def printed(result):
    code, out, err = result
    assert (code, err) == (0, [])
    return out


def test_printed_config_reads_back(call, config, tmp_path):
    words = ("--methods.sfa.p", "0.9", "--optimizer.lr", "1e-3", "--trainer.devices", "1")
    out = printed(call(*words, "--print_config"))
    assert any(line.strip().startswith("# ") for line in out)
    (tmp_path / "again.yaml").write_text("\n".join(out))
    values = yaml.safe_load(config.read_text())
    values |= {"methods": {"sfa": {"p": 0.9}}, "optimizer": {"lr": 1e-3}}
    values["trainer"]["devices"] = 1
    assert parse(yaml.safe_load("\n".join(out))) == parse(values)
    assert printed(call("--print_config", config="again.yaml")) == out
    assert not (tmp_path / "runs").exists()


def test_configs_merge_from_left_to_right(call, tmp_path):
    (tmp_path / "one.yaml").write_text("seed: 1\nbatch_size: 2\nmethods: {sfa: {p: 0.5}}\n")
    (tmp_path / "two.yaml").write_text("seed: 2\nmethods: {sfa: {beta: 0.25}}\nepochs: 3\n")
    words = ("--config", "one.yaml", "two.yaml", "--batch_size=3", "--print_config")
    values = yaml.safe_load("\n".join(printed(call(*words))))
    assert (values["seed"], values["batch_size"]) == (2, 3)
    assert (values["methods"]["sfa"]["p"], values["methods"]["sfa"]["beta"]) == (0.5, 0.25)
    assert (values["epochs"], values["steps"]) == (3, None)
    assert values["stream"]["tasks"] == 2


def test_without_a_config_the_default_is_run(call):
    values = yaml.safe_load("\n".join(printed(call("--print_config", config=None))))
    assert values["stream"]["name"] == "split_digits"


def test_help_writes_defaults_as_yaml_does():
    from clbench.cli.cli import field_help

    assert "[false]" in field_help()
    assert "[False]" not in field_help()
    assert "[True]" not in field_help()
