"""Trainings on one's own images: --data, --epochs, --budget, and the rules of the own configs."""

import re

import pytest
from tiny_training import write_images

from benchmarks.processes import CONFIGS
from slotcon_plugin.apis.own_images import choose_images, choose_length
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.recipe_rules import Budget, Setup, derive
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

SMALL = {
    "model.neck.hidden_channels": 32,
    "model.neck.out_channels": 16,
    "model.head.prototypes.channels": 16,
    "model.head.predictor.channels": 16,
    "model.head.predictor.hidden_channels": 32,
}


def test_data_and_epochs_of_a_pretraining(run_tool, tmp_path):
    write_images(tmp_path / "images", count=40)
    (tmp_path / "list.txt").write_text("images/000.png\nimages/001.png\n")
    small = CONFIGS / "slotcon_r18_small.py"
    options = ("--dry-run", "--no-step", "--work-dir", tmp_path / "work", "--epochs", 3)
    status, out, err = run_tool("train", small, "--data", tmp_path / "images", *options)
    assert status == 0, err
    assert "images:        40\n" in out
    assert "3 epochs of 1 iterations" in out
    assert "warm-up of 0.6 epochs instead of 5: a fifth of the training" in out
    status, _, err = run_tool("train", small, "--data", tmp_path / "absent", *options)
    assert status == 1
    assert f"{tmp_path / 'absent'} does not exist" in err
    assert "DATA_ROOT" not in err  # the config's folder is not used

    cfg = read_config(CONFIGS / "slotcon_r50_cocoplus.py")
    choose_images(cfg, "the config", [tmp_path / "images", str(tmp_path / "list.txt")])
    dataset = cfg.train_dataloader.dataset
    assert (len(dataset.source), dataset.preset) == (2, None)
    assert not list(choose_length(cfg, "the config", 25, None))
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (25, 5)


def test_data_and_epochs_are_for_pretrainings():
    cfg = read_config(CONFIGS.parent / "seg" / "fcn_r18_tiny.py")
    with pytest.raises(ConfigError, match=r"--data names the images of a pretraining, but fcn"):
        choose_images(cfg, "fcn", "images")
    for epochs, budget in ((3, None), (None, "3h")):
        with pytest.raises(ConfigError, match="fcn is trained for 100 iterations, not for epochs"):
            list(choose_length(cfg, "fcn", epochs, budget))


RECIPES = [  # images, processes, budget, seconds of an image -> values of `Recipe`
    ((118_287, 8, "paper", None), dict(batch=64, epochs=800, prototypes=256, lr=2.0, warmup=5)),
    ((118_287, 1, "paper", None), dict(batch=512, base=512, rounds=1, momentum=0.99)),
    ((1_281_167, 8, "paper", None), dict(batch=64, epochs=200, lr=2.0, momentum=0.99)),
    ((2_000_000, 8, "12h", 0.0006), dict(batch=64, epochs=32, prototypes=1024, interval=3)),
    ((100_000, 8, "800epochs", None), dict(batch=64, epochs=800, prototypes=256)),
    ((701, 1, "30epochs", None), dict(batch=32, epochs=30, prototypes=32, lr=2.0, warmup=5)),
    ((701, 1, "30 Epochs", None), dict(momentum=0.99, interval=3)),
    ((183, 1, "45min", 0.1), dict(batch=16, epochs=138, prototypes=16, momentum=0.99)),
    ((30, 1, "200epochs", None), dict(batch=16, rounds=1, epochs=200, lr=1.9)),
    ((7, 1, "200epochs", None), dict(batch=16, rounds=3, epochs=200, interval=20)),
    ((1, 1, "60epochs", None), dict(batch=16, rounds=16, momentum=0.9, warmup=10)),
    ((7, 8, "200epochs", None), dict(batch=2, rounds=3, base=16)),
    ((30, 3, "200epochs", None), dict(batch=4, rounds=1, base=12)),
    ((10_000, 1, "45min", 0.05), dict(batch=64, epochs=4, lr=2.0)),  # 512 would be 95 steps
    ((30, 1, "2h", None), dict(epochs=1)),  # not timed
]


@pytest.mark.parametrize(("setup", "expected"), RECIPES)
def test_rules(setup, expected):
    images, processes, budget, seconds = setup
    setup = Setup(images, processes, 1, Budget.read(budget), seconds)
    recipe, lines = derive(setup)
    found = recipe._asdict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.01)
    # The loader has a batch in each epoch, and nothing is longer than the budget.
    length = -(-images * recipe.rounds // processes) // recipe.batch
    assert length >= 1
    if seconds:
        steps = recipe.epochs * length
        assert steps * recipe.batch * processes * seconds <= setup.budget.seconds
    assert {line.split()[0] for line in lines} >= {"batch", "epochs", "prototypes", "learning"}


def test_given_values_are_kept_and_the_others_follow():
    setup = Setup(183, 1, 2, Budget.read("10epochs"))
    recipe, lines = derive(setup, batch=64, lr=0.5, prototypes=27)
    assert (recipe.batch, recipe.lr, recipe.prototypes) == (64, 0.5, 27)
    assert (recipe.base, recipe.rounds, recipe.epochs) == (128, 1, 10)
    assert not [line for line in lines if line.split()[0] in ("batch", "learning", "prototypes")]
    assert "10 steps; 600 or more" in next(line for line in lines if line.startswith("epochs"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("45", "--budget is '45', expected a number with its unit, as 45min, 3h"),
        ("45m", "There are: days, epochs, h, min"),
        ("45mim", "Did you mean min?"),
        ("2.5epochs", "expected a whole number of epochs above 0"),
        ("0min", "expected a time above 0"),
        ("1h30", "expected a number with its unit"),
        ("-3h", "expected a number with its unit"),
        ("", "expected a number with its unit"),
    ],
)
def test_wrong_budgets(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Budget.read(text)


def test_a_pretraining_within_a_budget(run_tool, tmp_path):
    """On five images, for three seconds; resumed as it began, and not with another image."""
    images, work = write_images(tmp_path / "images", count=5), tmp_path / "work"
    command = [CONFIGS / "slotcon_r18_own.py", "--data", images, "--work-dir", work, "--resume"]
    small = dict(SMALL, **{"train_dataloader.batch_size": 4, "train_dataloader.num_workers": 0})
    small["train_dataloader.dataset.views.size"] = 32
    command += ["--cfg-options", *(f"{key}={value}" for key, value in small.items())]
    status, out, err = run_tool("train", *command, "--budget", "0.05min")
    assert status == 0, err
    epochs = int(re.search(r"epochs ([\d,]+): 90% of 0.05min", out)[1].replace(",", ""))
    assert "timed: " in out
    assert "] batch 4: " not in out  # given
    saved = load_checkpoint_safely(work / f"epoch_{epochs}.pth")
    assert saved["state_dict"]["head.prototypes.weight"].shape[0] == 16
    assert "layer4.1.bn2.weight" in {key.removeprefix("backbone.") for key in saved["state_dict"]}

    status, out, err = run_tool("train", *command, "--dry-run")
    assert status == 0, err
    assert (
        f"as in the checkpoint: train_dataloader.sampler.rounds 1, train_cfg.max_epochs {epochs}"
        in out
    )
    status, _, err = run_tool("train", *command, "--dry-run", "--budget", "1h")
    assert status == 1
    assert "--budget 1h: the training that is resumed had the budget 0.05min" in err
    write_images(images, count=6)
    status, _, err = run_tool("train", *command)
    assert status == 1
    assert "the number of images was 5, now 6" in err
