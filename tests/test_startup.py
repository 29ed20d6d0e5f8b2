"""What needs no torch does not wait for it, and says the same as with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clbench.cli import cli
from clbench.cli.commands import COMMANDS

#: Whose imports take seconds between them.
HEAVY = ("torch", "torchvision", "timm", "lightning", "sklearn", "pandas")
#: By name, files in the folder where the words are given.
FILES = {
    "broken.yaml": "methods: {sfa: {p: 0.9}",
    "list.yaml": "[1, 2]",
    "key.yaml": "extends: good\nbatchsize: 3\n",
    "task.yaml": "extends: good\nstream: {name: split_digits, taks: 2}\n",
    "good.yaml": "stream: {name: split_digits}\nepochs: 1\nmodel: {backbone: tiny_cnn, "
    "weights: none}\nimages: {size: 16}\n",
    "gone.yaml": "extends: nosuch\n",
    "suite.yaml": "base: good.yaml\nmethod: {a: {}}\n",
    "rows.yaml": "base: good.yaml\nmethods: {plain: {}, odd: {sfa: {q: 0.9}}}\nseeds: [3]\n",
    "other.yaml": "base: good.yaml\nmethods: {a: {}}\nstreams: [split_digit]\n",
}
COMMANDS_OF_THEM = [
    *("--version", "--help", "--list", "list", "list --verified", "data --help"),
    *(f"{name} --help" for name in COMMANDS),
]
MISTAKES = [
    *("frobnicate", "--optimizer.lrr 1", "--optimzer.lr 1", "--verson", "--dryrun true", "-x"),
    *("--methods.sfa.q 1", "--methods.sfaa {}", "--methods.sfa.p 2", "--methods 3", "--seed yes"),
    *("--stream.name split_digit", "--stream.taks 2", "--stream.train a", "--stream.tasks"),
    *("--train_logits foo", "--optimizer.lr x", "--optimizer.lr -1", "--epochs 0", "--model 3"),
    *("--images.size 2", "--images.fit sqash", "--optimizer.betas [1]", "--loggers.wandb.projct a"),
    *("--loggers nope", "--loggers {csv: {x: 1}}", "--metrics nl", "--metrics [nl,nll]"),
    *("--retention.measures [headd]", "--retention.measures.knn.kk 3", "--retention.dat a"),
    *("--representation.measures.ridge.x 1", "--trainer.max_epochs 3", "--trainer.precision foo"),
    *("--per_task 3", "--plugins gone.py", "--plugins a-b", "--epochs 1 2", "--epochs {"),
    *("--optimizer.lrr 1 --methods.sfa.q 2 --seed x", "--name", "--optimizer null"),
    *(f"--config {name}" for name in ("nosuch", "broken.yaml", "list.yaml", "key.yaml", ".")),
    *("--config task.yaml", "--config gone.yaml", "--config good.yaml --stream.first x"),
    *(
        "compare",
        "compare nosuch",
        "compare suite.yaml",
        "compare broken.yaml",
        "compare list.yaml",
    ),
    *("compare rows.yaml", "compare other.yaml", "compare digits --optimizer.lrr 1"),
    *("compare digits --optimzer.lr 1", "compare digits --jbos 2", "compare digits --seed 2"),
    *("compare digits --epochs x --dry_run", "reproduce nosuch", "reproduce sfa --seeds x"),
    *("compare digits --jobs 0 --dry_run", "compare digits --launcher slurmm --dry_run"),
    *("compare digits --slurm nosuch --dry_run", "compare digits --slurm.gpus 1 --dry_run"),
    *(
        f"compare digits --launcher slurm {words} --dry_run"
        for words in ("--slurm good.yaml", "--slurm.gpus -1", "--slurm.timeout_min 1")
    ),
    *("report nosuch", "report nosuch --titel a", "score nosuch", "score nosuch --basline 1"),
    *("sweep nosuch --alpha 0:1:0.5", "sweep nosuch", "sweep nosuch --alpah 1", "sweep"),
    *("sweep nosuch --alpha x", "sweep nosuch --methods posthoc", "sweep nosuch --methods gone"),
    *("soup nosuch a", "soup", "soup a b --gredy", "data nosuch", "data --ftch", "data avalanche"),
    *("new method sfa", "new method A-b", "new metod a", "new", "embed nosuch --pretrained openai"),
    *("embed imagenet", "embed imagenet --pretrain a", "list --verfied"),
]
SCRIPT = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from clbench.cli.cli import main
told = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(line.split(" ") if line else [])
    heavy = [name for name in %r if name in sys.modules]
    told.append([code, out.getvalue(), err.getvalue(), heavy])
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """By the words, in one process without torch: what was said, and what was imported."""
    folder = tmp_path_factory.mktemp("early")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    lines = [*COMMANDS_OF_THEM, *MISTAKES]
    path = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT % (HEAVY,)],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return folder, dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", [*COMMANDS_OF_THEM, *MISTAKES])
def test_early_words_are_those_of_the_classes(early, line, capsys, monkeypatch):
    folder, told = early
    code, out, err, heavy = told[line]
    assert not heavy
    assert code == (2 if line in MISTAKES else 0)
    monkeypatch.chdir(folder)
    assert cli.main(line.split(" ")) == code
    assert capsys.readouterr() == (out, err)
