"""Configs with command-line options: how values are read, and which are refused."""

import pytest
from mmengine.config import Config

from benchmarks.processes import CONFIGS, DEMO
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.config_rules import RULES, check_values


def test_options_are_read_as_python():
    cfg = read_config(
        DEMO,
        [
            "train_dataloader.dataset.views.scale=(0.3, 1)",
            "train_dataloader.dataset.source=/a folder/with, commas",
            "model.compile=true",
            "load_from=None",
            "optim_wrapper.optimizer.lr=1e-3",
            "default_hooks.loss_guard.patience=9",
            "+model.head.init_cfg={'type': 'Constant'}",
        ],
    )
    assert cfg.train_dataloader.dataset.views.scale == (0.3, 1)
    assert cfg.train_dataloader.dataset.source == "/a folder/with, commas"
    assert cfg.model.compile is True
    assert cfg.load_from is None
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.default_hooks.loss_guard.patience == 9
    assert cfg.model.head.init_cfg.type == "Constant"


def test_folders_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("COCO_ROOT", "/big/coco")
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    assert cfg.train_dataloader.dataset.source == "/big/coco"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("optim_wrapper.optimizer.lr=-1", "is -1, expected a number above 0"),
        ("optim_wrapper.optimizer.lr=fast", "is 'fast', expected a number above 0"),
        ("optim_wrapper.optimizer.lr=1e999", "is inf, expected a number above 0"),
        ("optim_wrapper.optimizer.momentum=9", "is 9, expected a number from 0 to 1"),
        ("optim_wrapper.optimizer.weight_decay=-0.1", "expected a number from 0 on"),
        ("+optim_wrapper.accumulative_counts=0", "is 0, expected a whole number from 1 on"),
        ("train_cfg.max_epochs=-3", "is -3, expected a whole number from 1 on"),
        ("train_cfg.max_epochs=three", "is 'three', expected a whole number from 1 on"),
        ("train_cfg.max_epochs=None", "is None, expected a whole number from 1 on"),
        ("train_cfg.max_epochs=True", "is True, expected a whole number from 1 on"),
        ("train_cfg=3", "is 3, expected a dictionary"),
        ("model.head.prototypes.num_prototypes=abc", "is 'abc', expected a whole number"),
        ("model.head.group_loss_weight=2", "is 2, expected a number from 0 to 1"),
        ("model.teacher_momentum=1.5", "is 1.5, expected a number from 0 to 1"),
        ("model.compile=maybe", "is 'maybe', expected True or False"),
        ("train_dataloader.batch_size=abc", "is 'abc', expected a whole number from 1 on"),
        ("train_dataloader.batch_size=0", "is 0, expected a whole number from 1 on"),
        ("train_dataloader.batch_size=2.5", "is 2.5, expected a whole number from 1 on"),
        ("train_dataloader.num_workers=-1", "is -1, expected a whole number from 0 on"),
        ("train_dataloader.drop_last=abc", "is 'abc', expected True or False"),
        ("train_dataloader.dataset.source=3", "is 3, expected a path or a list of paths"),
        ("train_dataloader.dataset.views.scale=0.2", "is 0.2, expected two numbers"),
        ("load_from=3", "is 3, expected a path, or None"),
        ("log_level=loud", "is 'loud', expected one of DEBUG, INFO"),
        ("optim_wrapper.optimizer.type=None", "is None, expected a name"),
        ("randomness.seed=-1", "is -1, expected a whole number from 0 to 4294967295"),
        ("default_hooks.checkpoint.interval=0", "expected -1 (off) or a whole number from 1 on"),
        ("param_scheduler.warmup=-1", "is -1, expected a number from 0 on"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_built(option, expected):
    with pytest.raises(ConfigError) as raised:
        read_config(DEMO, [option])
    assert f"the config's {option.partition('=')[0].removeprefix('+')} is" in str(raised.value)
    assert expected in str(raised.value)


@pytest.mark.parametrize("key", RULES)
def test_every_rule_names_its_entry(key):
    rule = RULES[key]
    wrong = ["abc", "a/b", -1.5, 0, None, [], {}, True, float("nan"), (3, 1), object()]
    wrong = [value for value in wrong if not rule.accepts(value)]
    assert wrong
    *parents, last = key.split(".")
    for value in wrong:
        content = {last: value}
        for part in reversed(parents):  # schedulers are often a list
            if part == "param_scheduler":
                content = [{"type": "LinearLR"}, {"type": "LinearLR", **content}]
            content = {part: content}
        with pytest.raises(ConfigError) as raised:
            check_values(Config(content))
        assert f"{last} is {value!r}, expected {rule.expected}" in str(raised.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.parents[0].glob("*/*.py")), ids=lambda p: p.stem)
def test_the_values_of_our_configs_are_accepted(path):
    read_config(path)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("+trian_cfg.max_epochs=3", "train_cfg"),
        ("+train_cfg.max_epoch=3", "max_epochs"),
        ("+model.head.slot_los.temperature=1", "slot_loss"),
    ],
)
def test_a_misspelled_new_key_is_refused(option, known):
    with pytest.raises(ConfigError, match=f"Did you mean {known}\\?"):
        read_config(DEMO, [option])


@pytest.mark.parametrize(
    "option",
    [
        "+train_dataloader.sampler.rounds=2",
        "+optim_wrapper.clip_grad={'max_norm': 1}",
        "+val_dataloader={'batch_size': 1}",  # resembles train_dataloader, but MMEngine has it
        "+train_cfg.max_epochs=3",  # a key that is there already
    ],
)
def test_a_new_key_is_added(option):
    key, _, value = option.removeprefix("+").partition("=")
    node = read_config(DEMO, [option])
    for part in key.split("."):
        node = node[part]
    assert str(node) == value
