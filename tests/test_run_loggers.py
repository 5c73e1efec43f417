"""--logger: the real Weights & Biases and MLflow, offline."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_training import write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError, TrainingStopped
from slotcon_plugin.runtime.run_loggers import choose_loggers, without_secrets

SECRET = "hunter2secret"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """wandb without a network, MLflow without a server, and a secret in the config."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # restored afterwards
    monkeypatch.setattr(sys, "argv", ["train.py", f"storage.password={SECRET}"])
    return write_images(tmp_path / "images", count=8)


def scan_wandb(folder: Path) -> tuple[list[dict], bytes]:
    """The rows that an offline run has, and its whole file, which is a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("run-*.wandb")
    content = file.read_bytes()
    position, part, rows = 7, b"", []
    while position < len(content):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), position + 6
        part += content[position + 7 : position + 7 + length]
        if content[kind] in (1, 4):  # whole, or the last part
            items = Record.FromString(part).history.item
            rows.append({(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items})
            part = b""
        position += 7 + length
    return rows, content


def test_a_training_logs_offline_and_its_resume_continues_the_runs(offline, tmp_path):
    from mlflow.tracking import MlflowClient

    work = tmp_path / "work"
    options = [*pretraining_options(offline, work), f"+env_cfg.storage={{'password': '{SECRET}'}}"]
    train(DEMO, cfg_options=options, logger=["wandb", "mlflow"])
    first = json.loads((work / "loggers.json").read_text())
    assert first.keys() == {"wandb", "mlflow"}
    train(
        DEMO,
        cfg_options=options,
        logger=["wandb", "mlflow"],
        resume=work / "epoch_1.pth",
        overwrite=True,
    )
    assert json.loads((work / "loggers.json").read_text()) == first
    assert not list(work.glob("*/vis_data/events*"))  # only the named ones, and scalars.json

    runs = sorted((work / "wandb").glob(f"offline-run-*-{first['wandb']}"))
    assert len(runs) == 2
    for folder, steps in zip(runs, ([1, 2, 3, 4], [3, 4]), strict=True):
        rows, content = scan_wandb(folder)
        assert [row["step"] for row in rows if "loss" in row] == steps
        assert all({"feature_std", "rankme"} <= row.keys() for row in rows if "loss" in row)
        assert any("groups" in row for row in rows)
        assert b"slotcon_r18_demo" in content and SECRET.encode() not in content

    client = MlflowClient((work / "mlruns").as_uri())
    run = client.get_run(first["mlflow"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "work")
    assert client.get_experiment(run.info.experiment_id).name == "slotcon_r18_demo"
    assert run.data.params["optim_wrapper.optimizer.type"] == "SlotConLARS"
    found = client.get_metric_history(first["mlflow"], "loss")
    assert sorted(metric.step for metric in found) == [1, 2, 3, 3, 4, 4]
    assert {file.path for file in client.list_artifacts(first["mlflow"])} == {"config.py", "images"}
    written = [path for path in work.rglob("*") if path.is_file() and "mlruns" in path.parts]
    assert written and all(SECRET.encode() not in path.read_bytes() for path in written)


def test_a_failed_training_is_a_failed_run(offline, tmp_path):
    from mlflow.tracking import MlflowClient

    work = tmp_path / "work"
    options = [*pretraining_options(offline, work), "default_hooks.loss_guard.patience=1"]
    with pytest.raises(TrainingStopped):
        train(DEMO, cfg_options=[*options, "optim_wrapper.optimizer.lr=1e30"], logger="mlflow")
    run_id = json.loads((work / "loggers.json").read_text())["mlflow"]
    assert MlflowClient((work / "mlruns").as_uri()).get_run(run_id).info.status == "FAILED"


def test_dry_runs_and_wrong_loggers(offline, tmp_path, monkeypatch):
    options = pretraining_options(offline, tmp_path / "work")
    train(DEMO, cfg_options=options, logger=["wandb", "mlflow"], dry_run=True, step=False)
    with pytest.raises(ConfigError, match=r"no such logger\. Did you mean wandb\?"):
        train(DEMO, cfg_options=options, logger="wandbb", dry_run=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"unknown://me:{SECRET}@host")
    with pytest.raises(ConfigError, match="--logger mlflow: the run cannot start: ") as raised:
        train(DEMO, cfg_options=options, logger="mlflow")
    assert SECRET not in str(raised.value)
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install 'slotcon_plugin\[loggers\]'"):
        train(DEMO, cfg_options=options, logger="wandb", dry_run=True)
    assert not list((tmp_path / "work").glob("*.pth"))


def test_which_backends_are_used(monkeypatch):
    ours = dict(type="SomeVisBackend")
    cfg = Config(dict(work_dir="a/run_3", visualizer=dict(type="Visualizer", vis_backends=[ours])))
    choose_loggers(cfg, None, "demo")
    assert cfg.visualizer.vis_backends == [ours]
    choose_loggers(cfg, ["tensorboard", "mlflow"], "demo")
    place = dict(save_dir="a/run_3", project="demo", run_name="run_3")
    tensorboard = dict(type="TensorboardVisBackend")
    named = [ours, tensorboard, dict(type="MLflowLogger", **place)]
    assert cfg.visualizer.vis_backends == named
    choose_loggers(cfg, "tensorboard", "demo")
    assert cfg.visualizer.vis_backends == [ours, tensorboard]
    cfg.visualizer = None
    choose_loggers(cfg, "tensorboard", "demo")
    assert cfg.visualizer.vis_backends == [dict(type="LocalVisBackend"), tensorboard]


def test_secrets():
    given = dict(access_key="A", a=[dict(api_token="B", num_tokens=3)], uri="s3://me:pw@host/x")
    expected = dict(
        access_key="***", a=[dict(api_token="***", num_tokens=3)], uri="s3://***@host/x"
    )
    assert without_secrets(given) == expected
