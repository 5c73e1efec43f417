"""Weights & Biases and MLflow beside `scalars.json`: the vis backends of `--logger`."""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import MLflowVisBackend, Visualizer, WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from ..errors import ConfigError
from .atomic_files import write_atomically
from .config_options import did_you_mean, type_name
from .extras import import_extra

BACKENDS = {
    "tensorboard": "TensorboardVisBackend",
    "wandb": "WandbLogger",
    "mlflow": "MLflowLogger",
}
RUNS = "loggers.json"  # the runs' ids, in the work dir
SECRET = re.compile(r"passw|secret|credential|token|(api|access|private|account)_?key", re.I)
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")  # of an address
PARAMETER = re.compile(r"[\w\-. /:]{1,250}")  # a name that MLflow takes


def choose_loggers(cfg: Config, names: str | Sequence[str] | None, project: str) -> None:
    """Let a config log to these of `BACKENDS`, and to no other ones; None: as it is.

    The name of the run is that of the work dir, which also has what the loggers write on this
    machine. Their environment variables come first: WANDB_PROJECT, WANDB_NAME, WANDB_MODE,
    MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_NAME, ….
    """
    if names is None:
        return
    names = list(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in names:
        if name not in BACKENDS:
            close = did_you_mean(str(name), BACKENDS)
            raise ConfigError(f"--logger {name}: there is no such logger.{close}")
        # Before MMEngine opens its log: on import, MLflow closes the open files of all logs.
        import_extra(name, "loggers", f"--logger {name}")
    local = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
    cfg.visualizer = cfg.get("visualizer") or local
    present = cfg.visualizer.get("vis_backends") or local["vis_backends"]
    present = [present] if isinstance(present, dict) else present
    kept = [one for one in present if type_name(one["type"]) not in BACKENDS.values()]
    place = dict(save_dir=cfg.work_dir, project=project, run_name=Path(cfg.work_dir).resolve().name)
    added = [
        dict(type=BACKENDS[name], **({} if name == "tensorboard" else place)) for name in names
    ]
    cfg.visualizer.vis_backends = [*kept, *added]


class WandbLogger(WandbVisBackend):
    """A run of Weights & Biases, in the folder `wandb` of the work dir.

    A resumed training continues its run. Steps are the training's iterations. Sent are scalars,
    images of groups and the config without secrets; no code and no console output.

    Args:
        save_dir: the work dir.
        project, run_name: of the run, unless WANDB_PROJECT or WANDB_NAME is set.
    """

    failed = False  # set by `ended_runs`

    def __init__(self, save_dir: str, project: str, run_name: str) -> None:
        options = dict(
            project=os.environ.get("WANDB_PROJECT") or project,
            name=os.environ.get("WANDB_NAME") or run_name,
            resume="allow",
            allow_val_change=True,
            settings=dict(
                console="off",
                disable_code=True,
                x_disable_meta=any(map(_has_secret, sys.argv)),  # which has the command line
            ),
        )
        super().__init__(save_dir, options, [dict(name="*", step_metric="step")])

    def add_config(self, config: Config, **kwargs) -> None:
        """Start the run, or continue it if the training is resumed, and record the config."""
        known = _known_run(self._save_dir, "wandb") if config.get("resume") else None
        self._init_kwargs["id"] = known or secrets.token_hex(4)
        with _explained("wandb", "Run `wandb login`, or set WANDB_MODE=offline"):
            self.experiment.config.update(without_secrets(config.to_dict()), allow_val_change=True)
        _note_run(self._save_dir, wandb=self._init_kwargs["id"])

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """An image, uint8 RGB (h, w, 3)."""
        self.add_scalars({name: self.experiment.Image(image)}, step)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs) -> None:
        """One value."""
        self.add_scalars({name: value}, step)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path=None, **kwargs) -> None:
        """Values of one step."""
        self._wandb.log({**scalar_dict, "step": step})

    def close(self) -> None:
        """End the run; does nothing if it ended before."""
        if getattr(self, "_wandb", None) and self._wandb.run is not None:
            self._wandb.finish(exit_code=int(self.failed))


class MLflowLogger(MLflowVisBackend):
    """A run of MLflow: on the server of MLFLOW_TRACKING_URI, or in files in `mlruns` of the work
    dir.

    A resumed training continues its run. For the arguments see `WandbLogger`.
    """

    failed = False

    def __init__(self, save_dir: str, project: str, run_name: str) -> None:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or project
        super().__init__(save_dir, experiment, os.environ.get("MLFLOW_RUN_NAME") or run_name)
        self._run_id: str | None = None

    def _init_env(self) -> None:
        import mlflow

        self._mlflow = mlflow
        self._is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        if self._is_local:
            # MLflow 3 asks for this permission; its databases need packages beyond mlflow-skinny.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri(Path(self._save_dir, "mlruns").resolve().as_uri())
        mlflow.set_experiment(self._exp_name)
        run = None
        with suppress(mlflow.MlflowException):  # it was deleted, or is on another server
            run = self._run_id and mlflow.start_run(run_id=self._run_id)
        self._is_new = not run
        run = run or mlflow.start_run(run_name=self._run_name)
        _note_run(self._save_dir, mlflow=run.info.run_id)

    def add_config(self, config: Config, **kwargs) -> None:
        """Start the run, or continue it if the training is resumed, and record the config."""
        self._run_id = _known_run(self._save_dir, "mlflow") if config.get("resume") else None
        safe = Config(without_secrets(config.to_dict()))
        with _explained(
            "mlflow", "Check MLFLOW_TRACKING_URI, or unset it for files in the work dir"
        ):
            mlflow = self.experiment
            if self._is_new:  # parameters of a run cannot change
                values = self._flatten(safe.to_dict()).items()
                values = {key: str(v)[:500] for key, v in values if PARAMETER.fullmatch(key)}
                mlflow.log_params(values)
            mlflow.log_text(safe.pretty_text, "config.py")

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """An image, uint8 RGB (h, w, 3)."""
        super().add_image(f"images/{name}_{step}.png", image)

    def close(self) -> None:
        """End the run; does nothing if it ended before."""
        if hasattr(self, "_mlflow"):
            self._mlflow.end_run("FAILED" if self.failed else "FINISHED")
            if self._is_local:  # for a later training of this process
                self._mlflow.set_tracking_uri(None)


@contextmanager
def ended_runs(visualizer: Visualizer) -> Iterator[None]:
    """End the runs of all loggers afterwards, after an error as failed ones."""
    try:
        yield
    except BaseException:
        for backend in visualizer._vis_backends.values():  # no public name
            backend.failed = True
        raise
    finally:
        visualizer.close()


def without_secrets(value: Any) -> Any:
    """A config's content in which passwords, keys and tokens are replaced by ***."""
    if isinstance(value, dict):
        return {
            key: "***" if isinstance(one, str) and SECRET.search(str(key)) else without_secrets(one)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(map(without_secrets, value))
    return CREDENTIALS.sub("***", value) if isinstance(value, str) else value


def _has_secret(argument: str) -> bool:
    return bool(SECRET.search(argument) or CREDENTIALS.search(argument))


@contextmanager
def _explained(name: str, advice: str) -> Iterator[None]:
    """A ConfigError for whatever keeps a run from starting."""
    try:
        yield
    except Exception as error:  # of the library, the network or the disk
        reason = CREDENTIALS.sub("***", str(error)).rstrip(". ")
        raise ConfigError(f"--logger {name}: the run cannot start: {reason}. {advice}") from error


def _known_run(work_dir: str, name: str) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        return json.loads(Path(work_dir, RUNS).read_text(encoding="utf-8")).get(name)
    return None


def _note_run(work_dir: str, **run: str) -> None:
    known = {name: _known_run(work_dir, name) for name in BACKENDS} | run
    known = {name: value for name, value in known.items() if value}
    write_atomically(json.dumps(known).encode(), Path(work_dir, RUNS))
