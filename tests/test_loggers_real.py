"""Loggers against what they talk to: an MLflow server over SQLite, W&B's files of its offline mode.

They need the extras: pip install 'clbench[mlflow,wandb]'.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import interrupt_after

import clbench
from clbench.recipe.recipe import merge, parse
from clbench.recipe.yamlfile import read_mapping

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SMALL = {
    "stream": {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20},
    "trainer": {"log_every_n_steps": 2},
    "methods": {"sfa": {"p": 0.5}},
}


@contextlib.contextmanager
def server(folder):
    """An MLflow server on the loopback device, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "a")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(1200):
                with suppress(OSError):
                    urllib.request.urlopen(f"{address}/health", timeout=5)
                    break
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.25)
            yield address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_run_on_an_mlflow_server_is_cut_off_and_goes_on(recipe, tmp_path, monkeypatch, capsys):
    mlflow = pytest.importorskip("mlflow", reason="needs clbench[mlflow]")
    with server(tmp_path) as address:
        settings = {"tracking_uri": address, "experiment": "forgetting", "artifact": True}
        rows = [{"mlflow": settings}]
        values = merge(recipe, SMALL | {"loggers": rows, "name": "on a server"})
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            interrupt_after(patch)
            clbench.run(values, tmp_path / "run")
        record = clbench.run(values, tmp_path / "run", resume=True)
        client = mlflow.MlflowClient(address)
        (found,) = client.search_runs([client.get_experiment_by_name("forgetting").experiment_id])
        assert found.info.status == "FINISHED"
        assert found.info.run_name == "on a server"
        assert found.data.params["optimizer.lr"] == "0.05"
        assert found.data.params["sfa.p"] == "0.5"
        history = client.get_metric_history(found.info.run_id, "train/loss")
        assert [point.step for point in history] == [2, 4, 6, 8, 10, 12]
        score = record.summary()["task_incremental"]["overall_performance"]
        name = "final/task_incremental/overall_performance"
        assert found.data.metrics[name] == pytest.approx(score)
        pictures = {file.path for file in client.list_artifacts(found.info.run_id)}
        assert {"curves.png", "accuracy_matrix.png", "record.jsonl", "summary.json"} <= pictures
        config = client.download_artifacts(found.info.run_id, "config.yaml", str(tmp_path))
        assert parse(read_mapping(Path(config))).optimizer.lr == 0.05
    assert "left out" not in capsys.readouterr().out


def test_a_server_that_goes_away_and_one_that_never_was_cost_a_line(
    recipe, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("mlflow", reason="needs clbench[mlflow]")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    values = merge(recipe, SMALL)
    for gone in (True, False):
        with contextlib.ExitStack() as held:
            if gone:
                address = held.enter_context(server(tmp_path))
            else:
                address = "http://127.0.0.1:9"
            rows = {"mlflow": {"tracking_uri": address}}
            if gone:
                with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
                    interrupt_after(patch)
                    clbench.run(values | {"loggers": rows}, tmp_path / f"{gone}")
        record = clbench.run(values | {"loggers": rows}, tmp_path / f"{gone}", resume=gone)
        assert record.finished
        lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
        assert len(lines) == 1
        assert lines[0].startswith("loggers.mlflow is left out")


def written(path):
    """The records of a W&B file: LevelDB's log, in blocks of 32 KiB, after seven bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (room := -at % 2**15) < 7 and room:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield parts
            parts = b""


def test_wandb_writes_its_files_offline_and_goes_on_under_one_id(
    recipe, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("wandb", reason="needs clbench[wandb]")
    from wandb.proto import wandb_internal_pb2

    settings = {"offline": True, "project": "forgetting", "tags": ["digits"], "artifact": True}
    rows = [{"wandb": settings}]
    values = merge(recipe, SMALL | {"loggers": rows, "name": "offline"})
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        interrupt_after(patch)
        clbench.run(values, tmp_path / "run")
    record = clbench.run(values, tmp_path / "run", resume=True)
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2  # `wandb sync` joins them, as they are one run's
    assert len({path.name for path in files}) == 1
    points, images, names, config, summary, kept = {}, set(), set(), {}, {}, set()
    for path in files:
        for data in written(path):
            entry = wandb_internal_pb2.Record()
            entry.ParseFromString(data)
            names |= {entry.run.display_name} - {""}
            updates = [*entry.run.config.update, *entry.config.update]
            config |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in updates}
            for item in entry.summary.update:
                summary["/".join(item.nested_key) or item.key] = item.value_json
            kept |= {one.path for one in entry.artifact.manifest.contents}
            kept |= {entry.artifact.type} - {""}
            row = {"/".join(i.nested_key) or i.key: i.value_json for i in entry.history.item}
            step = row.get("trainer/global_step")
            points |= {(key, step): value for key, value in row.items()}
            images |= {key for key, value in row.items() if "image" in value}
    assert names == {"offline"}
    assert sorted(int(s) for key, s in points if key == "train/loss") == [2, 4, 6, 8, 10, 12]
    score = record.summary()["task_incremental"]["overall_performance"]
    name = "final/task_incremental/overall_performance"
    assert float(points[name, "12"]) == pytest.approx(score)
    assert any("curves" in key for key in images)
    assert float(summary[name]) == pytest.approx(score)
    assert config["recipe"]["optimizer"]["lr"] == 0.05
    assert config["optimizer.lr"] == 0.05  # a hyperparameter, as TensorBoard has it
    assert kept == {"run", "record.jsonl", "config.yaml", "summary.json"}
    assert "left out" not in capsys.readouterr().out
