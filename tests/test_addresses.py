"""To whom loggers speak: only to addresses that the user names, never to a run folder's alone."""

import pytest
import yaml

from clbench.cli.arguments import read_arguments, values
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.launch.local import train_words
from clbench.recipe.addresses import addresses
from clbench.recipe.recipe import parse
from clbench.runner.folder import plain
from clbench.suite.suite import expand

THERE = "http://127.0.0.1:9"
NAME = "loggers.mlflow.tracking_uri"


@pytest.fixture
def folder(recipe, tmp_path, monkeypatch):
    """A run folder as a stranger gives it."""
    monkeypatch.chdir(tmp_path)
    made = parse(recipe | {"loggers": ["csv", {"mlflow": {"tracking_uri": THERE}}]})
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(plain(made)))
    (path / "record.jsonl").touch()
    return path


RESUME = ["--resume", "--output", "run"]
AGAIN = ["--config", "run/config.yaml"]


@pytest.mark.parametrize("words", [RESUME, AGAIN, [*AGAIN, *RESUME], [*AGAIN, "--seed", "1"]])
def test_a_strangers_address_is_not_asked(folder, words, capsys):
    assert main([*words, "--print_config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--{NAME} {THERE}" in line
    assert f"{NAME} = '{THERE}' would be told" in line


@pytest.mark.parametrize(
    "more",
    [
        [f"--{NAME}", THERE],
        [f"--{NAME}", "http://other"],
        ["--loggers", f"{{mlflow: {{tracking_uri: '{THERE}'}}}}"],
        ["--loggers", "csv"],
        ["--loggers", "csv", "tensorboard"],
    ],
)
@pytest.mark.parametrize("words", [RESUME, AGAIN])
def test_addresses_that_are_named_are(folder, words, more):
    found = values(read_arguments([*words, *more]))
    named = [word for word in more if word.startswith("http")] or [THERE] * ("{" in more[1])
    assert list(addresses(found).values()) == named
    parse(found)


def test_a_config_of_ones_own_names_them(folder, recipe, tmp_path):
    own = recipe | {"loggers": {"mlflow": {"tracking_uri": THERE}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    for words in (["--config", "own.yaml"], ["--config", "run/config.yaml", "own.yaml"]):
        assert addresses(values(read_arguments(words))) == {NAME: THERE}


def test_a_suite_tells_its_runs_and_takes_none_from_a_run_folder(folder, recipe, tmp_path):
    with pytest.raises(ClbenchError, match=rf"run/config\.yaml: {NAME} = .* copy the file"):
        expand({"base": "run/config.yaml", "methods": {"plain": {}}}, "own")
    with pytest.raises(ClbenchError, match="anybody's"):
        expand({"base": recipe, "methods": {"plain": {"config": "run/config.yaml"}}}, "own")
    named = addresses(plain(parse(recipe | {"loggers": [{"mlflow": {"tracking_uri": THERE}}]})))
    words = train_words(folder, "own.py", **named)
    assert words[-4:] == ["--plugins", "own.py", f"--{NAME}", THERE]
    (folder.parent / "own.py").write_text("CALLBACKS = {'nothing': dict}")
    assert addresses(values(read_arguments(words[4:]))) == {NAME: THERE}


def test_several_loggers_are_several_words(recipe, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    words = ["--config", str(tmp_path / "own.yaml"), "--loggers", "csv"]
    assert list(parse(values(read_arguments([*words, "wandb"]))).loggers) == ["csv", "wandb"]
    made = parse(values(read_arguments([*words, "{wandb: {offline: true}}"])))
    assert made.loggers["wandb"].offline
    with pytest.raises(ClbenchError, match="there is no logger 'wanb'"):
        parse(values(read_arguments([*words, "wanb"])))


@pytest.mark.parametrize(
    "loggers", [None, 3, ["csv", 5], {"mlflow": None}, {"no": {"a": 1}}, "csv"]
)
def test_what_is_no_address_is_none(loggers):
    assert addresses({"loggers": loggers}) == {}
