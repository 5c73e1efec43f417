"""The commands of each kind of job. `{folder}` stands for the job's folder."""

from pathlib import Path

from .jobs import Step
from .schema import Transfer
from .training_recipe import option_words


def pretraining(config: Path, overrides: dict, gpus: int, seed: int, epochs: int) -> list[Step]:
    """Train, and draw the groups of some images."""
    options, last = _cfg_options(overrides), f"epoch_{epochs}.pth"
    train = [*_trainer(config, gpus), "--work-dir", "{folder}", "--seed", str(seed), "--resume"]
    draw = ["python", "tools/draw_groups.py", str(config), f"{{folder}}/{last}"]
    draw += ["--out", "{folder}/groups.png"]
    return [
        Step([*train, *options], last),
        Step([*draw, *options], "groups.png", needed=False),
    ]


def export(source: str) -> list[Step]:
    """Write the encoder of a full checkpoint for the transfers."""
    command = ["python", "tools/export.py", source, "{folder}/encoder.pth", "--to", "openmmlab"]
    return [Step(command, "encoder.pth")]


def openmmlab(one: Transfer, config: Path, backbone: str, seed: int, length: int) -> list[Step]:
    """Train and test by mmdet or mmseg, `length` iterations."""
    options, last = _cfg_options(one.overrides), f"iter_{length}.pth"
    train = [*_trainer(config, one.gpus), "--backbone", backbone, "--work-dir", "{folder}"]
    train += ["--seed", str(seed), "--resume"]
    several = one.gpus > 1
    test = ["torchrun", str(one.gpus)] if several else ["python"]
    test += ["tools/test.py", str(config), f"{{folder}}/{last}", "--work-dir", "{folder}/test"]
    test += ["--out", "{folder}/figures.json", *(["--launcher", "pytorch"] if several else [])]
    return [Step([*train, *options], last), Step([*test, *options], "figures.json")]


def detectron2(one: Transfer, config: Path, backbone: str, seed: int, length: int) -> list[Step]:
    """Train and test by detectron2's trainer, as long as the config says."""
    options = [str(word) for pair in one.overrides.items() for word in pair]
    tool = ["python", "tools/train_detectron2.py", str(config), "--num-gpus", str(one.gpus)]
    train = [*tool, "--work-dir", "{folder}", "--backbone", backbone, "--resume"]
    train += ["SEED", str(seed)]
    test = [*tool, "--work-dir", "{folder}/test", "--eval-only", "--out", "{folder}/figures.json"]
    test += ["MODEL.WEIGHTS", "{folder}/model_final.pth"]
    return [
        # Its checkpoints are not written atomically; its note of the last one comes after it
        Step([*train, *options], "last_checkpoint", "model_final.pth"),
        Step([*test, *options], "figures.json"),
    ]


def unsupervised(source: str, options: dict) -> list[Step]:
    """Score the prototypes of a full checkpoint; `options` are of tools/evaluate.py."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    command = ["python", "tools/evaluate.py", "unsupervised", source, *words]
    return [Step([*command, "--quiet", "--out", "{folder}/figures.json"], "figures.json")]


def _trainer(config: Path, gpus: int) -> list[str]:
    if gpus > 1:
        return ["tools/dist_train.sh", str(config), str(gpus)]
    return ["python", "tools/train.py", str(config)]


def _cfg_options(overrides: dict) -> list[str]:
    return ["--cfg-options", *option_words(overrides)] if overrides else []
