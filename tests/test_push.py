"""A finished run on the Hugging Face hub: what is sent, that it was asked for, what can fail."""

import io
import json
import shutil
import subprocess
import sys

import pytest
import timm
import torch
import yaml
from helpers import RECIPE
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file

import clbench
from clbench.cli import main
from clbench.models import backbone
from clbench.models.settings import ModelConfig
from clbench.record.record import Record

SIX = ["README.md", "config.json", "model.safetensors", "record.jsonl", "config.yaml"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    """A run with a picture."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    values = RECIPE | {"data_dir": str(data_dir), "methods": {"sfa": {}}, "steps": 2}
    clbench.run(values, folder)
    return folder


def push(folder, *words, to="me/digits"):
    return main(["push", str(folder), "--to", to, *words])


def told(capsys):
    """What an error says: one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_is_one_commit_that_timm_loads(finished, hub, capsys):
    assert push(finished, "--yes", "--license", "apache-2.0") == 0
    out = capsys.readouterr().out
    assert f"Sent: {hub.address}/me/digits/commit/" in out
    assert "hf_of_me" not in out
    assert len(hub.repositories["me/digits"]) == 2  # empty, then whole
    assert hub.private["me/digits"] is False
    files = hub.files("me/digits")
    assert list(files) == [*SIX, "accuracy_matrix.png"]
    assert len(hub.stored) == 2  # weights and picture went to the large file storage
    state = load_file(finished / "model.safetensors")
    model = timm.create_model("hf-hub:me/digits", pretrained=True)
    assert all(torch.equal(state[name], x) for name, x in model.state_dict().items())
    about = timm.data.resolve_data_config(model=model)
    assert about["input_size"] == [3, 8, 8]
    assert about["mean"] == [0.5, 0.5, 0.5]
    assert about["crop_pct"] == 1
    assert model.pretrained_cfg["label_names"] == Record.load(finished).run.class_names


def test_a_vit_of_another_size_loads_at_its_own(hub, recipe, tmp_path, no_pictures):
    model = {"backbone": "test_vit", "weights": "none", "options": {"depth": 2}}
    stream = {"classes": [[4, 5], [6, 7]], "pretrain_classes": [], "train_per_class": 20}
    values = recipe | {"model": model, "images": {"size": 32}, "steps": 1}
    values["stream"] = values["stream"] | stream
    folder = clbench.run(values, tmp_path / "run").folder
    assert push(folder, "--yes") == 0
    theirs = timm.create_model("hf-hub:me/digits", pretrained=True)
    state = load_file(folder / "model.safetensors")
    assert all(torch.equal(state[name], x) for name, x in theirs.state_dict().items())
    assert timm.data.resolve_data_config(model=theirs)["input_size"][-1] == 32
    start = {"backbone": "test_vit", "weights": "hf-hub:me/digits", "options": {"depth": 2}}
    ours = backbone.load(ModelConfig.model_validate(start), 2, 32)
    assert torch.equal(ours.head.weight, state["head.weight"])


def test_the_card_is_what_the_hub_reads(finished, hub, tmp_path):
    assert push(finished, "--output", str(tmp_path / "out"), "--license", "mit") == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "timm")
    summary = Record.load(finished).summary()
    results = {one.metric_name: one.metric_value for one in card.data.eval_results}
    for scenario in ("task_incremental", "class_incremental"):
        name = f"overall performance (OP), {scenario.replace('_', '-')}"
        assert results[name] == pytest.approx(summary[scenario]["overall_performance"], abs=1e-6)
    text = card.text
    assert f"| {100 * summary['class_incremental']['forgetting']:.1f} |" in text
    assert "hf-hub:me/digits" in text
    assert "tiny\\_cnn that learned 3 tasks" in text
    assert "clbench knows no licence" in text  # of the digits: none is guessed


def test_names_in_a_card_are_text(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / "record.jsonl"
    bad = "<script>alert(1)</script>\\n---\\n# [x](http://y) `z`"
    for name in ("record.jsonl",):
        text = (folder / name).read_text()
        path.write_text(text.replace('"title": "split_digits-sfa-seed0"', f'"title": "{bad}"'))
    assert push(folder, "--output", str(tmp_path / "out")) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    heading = next(line for line in card.splitlines() if "alert" in line)
    assert heading.startswith("# \\<script\\>")
    assert "\\[x\\](http://y) \\`z\\`" in heading
    assert card.count("\n---\n") == 1


def test_nothing_is_sent_without_being_asked(finished, hub, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert push(finished) == 2
    assert "say --yes to send it" in told(capsys)
    answers = iter(["n", "", "y"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    for _ in range(2):
        assert push(finished, "--private") == 0
        assert "Nothing was sent." in capsys.readouterr().out
    assert push(finished, "--dry_run") == 0
    assert hub.asked == []
    assert push(finished, "--private") == 0
    out = capsys.readouterr().out
    assert f"{hub.address}/me/digits, private" in out
    assert f"model.safetensors    {(finished / 'model.safetensors').stat().st_size:>13,}" in out
    assert hub.private["me/digits"] is True


def test_what_is_written_is_what_is_sent(finished, hub, capsys, tmp_path):
    out = tmp_path / "out"
    assert push(finished, "--output", str(out)) == 0
    assert hub.asked == []
    assert push(finished, "--yes") == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == hub.files("me/digits")
    capsys.readouterr()
    assert push(finished, "--output", str(out)) == 2
    assert "is there already" in told(capsys)


def test_paths_of_the_machine_and_tokens_stay(finished, hub, data_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert push(folder, "--yes") == 0
    assert "Taken out: where data lies (data_dir), once." in capsys.readouterr().out
    files = hub.files("me/digits")
    for name in ("README.md", "config.json", "record.jsonl", "config.yaml"):
        assert str(data_dir).encode() not in files[name]
        assert b"hf_of_me" not in files[name]
    assert yaml.safe_load(files["config.yaml"])["data_dir"] == "data"
    sent = tmp_path / "record.jsonl"
    sent.write_bytes(files["record.jsonl"])
    assert Record.load(tmp_path).summary() == Record.load(finished).summary()
    path = folder / "record.jsonl"
    path.write_text(path.read_text().replace('"warnings": []', '"warnings": ["hf_of_me"]'))
    assert push(folder, "--yes", "--update") == 2
    assert "record.jsonl holds your token" in told(capsys)
    assert "hf_of_me" not in (folder / "environment.json").read_text()


@pytest.mark.parametrize(
    ("token", "to", "words"),
    [
        ("hf_wrong", "me/digits", "does not know the token"),
        ("hf_of_reader", "me/digits", "may not write to me"),
        ("hf_of_me", "them/digits", "may not write to them"),
    ],
)
def test_the_hub_refuses(finished, hub, capsys, monkeypatch, token, to, words):
    monkeypatch.setenv("HF_TOKEN", token)
    assert push(finished, "--yes", to=to) == 2
    line = told(capsys)
    assert words in line
    assert line.endswith("nothing was sent")
    assert token not in line
    assert not hub.repositories


def test_a_licence_that_the_hub_does_not_know(finished, hub, capsys):
    assert push(finished, "--yes", "--license", "no-such") == 2
    line = told(capsys)
    assert "refuses the card's metadata" in line
    assert "must be one of" in line
    assert not hub.repositories


def test_without_a_token_or_a_network_nothing_is_begun(finished, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    assert push(finished, "--yes") == 2
    assert "there is no token: log in" in told(capsys)
    monkeypatch.setenv("HF_TOKEN", "hf_of_me")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(finished, "--yes") == 2
    assert "cannot be reached" in told(capsys)


def test_a_commit_that_fails_leaves_a_repository_that_is_said_to_be_empty(
    finished, hub, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.failing = "/api/models/me/digits/commit"
    assert push(finished, "--yes") == 2
    assert "is empty: the same command with --update goes on" in told(capsys)
    assert hub.files("me/digits") == {}
    hub.failing = None
    assert push(finished, "--yes", "--update") == 0
    hub.failing = "/store"
    path = hub.files("me/digits")
    hub.stored.clear()
    assert push(finished, "--yes", "--update") == 2
    assert "nothing in the repository has changed" in told(capsys)
    assert hub.files("me/digits") == path


def test_a_repository_that_is_there_is_not_written_over(finished, hub, capsys):
    hub.put("me/digits", {"README.md": b"mine", "notes.txt": b"kept"})
    assert push(finished, "--yes") == 2
    assert "--update" in told(capsys)
    assert push(finished, "--yes", "--update", "--private") == 2
    assert "everybody sees it" in told(capsys)
    assert hub.files("me/digits")["README.md"] == b"mine"
    assert push(finished, "--yes", "--update") == 0
    assert hub.files("me/digits")["README.md"].startswith(b"---")
    assert hub.files("me/digits")["notes.txt"] == b"kept"


def test_a_wrong_name_is_told_before_torch_is_imported():
    code = (
        "import sys\nfrom clbench.cli import main\n"
        "assert main(['push', 'run', '--to', 'digits']) == 2\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "needs --to user/name"),
        (["--to", "digits"], "names no repository as user/name"),
        (["--to", "me/../x"], "names no repository"),
        (["--to", "me/digits", "--token=hf_of_me"], "there is no option --token"),
    ],
)
def test_words_that_are_wrong(finished, capsys, words, line):
    assert main(["push", str(finished), *words]) == 2
    assert line in (error := told(capsys))
    assert "hf_of_me" not in error


def test_what_timm_could_not_load_is_refused(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path, weights = folder / "record.jsonl", folder / "model.safetensors"
    text, content = path.read_text(), weights.read_bytes()
    for methods, line in (
        ({"ranpac": {}}, "ranpac adds to the network or classifies in place of its head"),
        ({"leash": {}}, "name its plugin with --plugins"),
    ):
        first = json.loads(text.splitlines()[0])
        first["recipe"] = yaml.safe_dump(yaml.safe_load(first["recipe"]) | {"methods": methods})
        first["methods"] = methods
        changed = text.replace('"sfa":', f'"{next(iter(methods))}":')
        path.write_text("\n".join([json.dumps(first), *changed.splitlines()[1:]]) + "\n")
        assert push(folder, "--dry_run") == 2
        assert line in told(capsys)
    path.write_text(text)
    weights.write_bytes(content[:-10])
    assert push(folder, "--dry_run") == 2
    assert "are not the weights of the run's network" in told(capsys)
    weights.unlink()
    assert push(folder, "--dry_run") == 2
    assert "has no model.safetensors" in told(capsys)
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert push(folder, "--dry_run") == 2
    assert "is not finished" in told(capsys)


def test_a_licence_that_is_no_name_is_refused(finished, capsys):
    for license in ("<b>mit", "mit\nfoo: bar", ""):
        assert push(finished, "--dry_run", "--license", license) == 2
        assert "no name of the hub's" in told(capsys)
