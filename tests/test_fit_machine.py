"""What of a config is adapted to the machine: processes, precision, learning rate, loggers."""

import pytest
import torch

from benchmarks.processes import CONFIGS, DEMO
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime import fit_machine, launch
from slotcon_plugin.runtime.config_options import read_config


def test_the_learning_rate_follows_the_global_batch():
    """The paper's rule, 1.0 x global batch / 256; accumulated iterations count."""
    for world_size, batch, accumulation, lr in ((8, 64, 1, 2.0), (1, 64, 1, 0.25), (4, 64, 2, 2.0)):
        cfg = read_config(
            CONFIGS / "slotcon_r50_coco.py",
            [
                f"train_dataloader.batch_size={batch}",
                f"+optim_wrapper.accumulative_counts={accumulation}",
            ],
        )
        lines = fit_machine.fit_learning_rate(cfg, world_size)
        assert cfg.optim_wrapper.optimizer.lr == lr
        assert f"peak learning rate {lr:g} = 2 x global batch" in lines[0]
        again = fit_machine.fit_learning_rate(cfg, world_size)  # as when the dumped config is used
        assert cfg.optim_wrapper.optimizer.lr == lr
        assert "as configured" in again[0]


def test_the_learning_rate_can_be_left_alone():
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    fit_machine.fit_learning_rate(cfg, 1, scale=False)
    assert cfg.optim_wrapper.optimizer.lr == 2.0
    cfg.auto_scale_lr = None
    with pytest.raises(ConfigError, match="base_batch_size"):
        fit_machine.fit_learning_rate(cfg, 1, scale=True)


@pytest.mark.parametrize(
    ("cuda", "precision", "kind"),
    [
        (True, None, dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")),
        (True, "fp16", dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")),
        (
            True,
            "bf16",
            dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale={"enabled": False}),
        ),
        (True, "off", dict(type="OptimWrapper")),
        (False, None, dict(type="OptimWrapper")),
        (False, "bf16", dict(type="CpuAmpOptimWrapper")),
        (False, "off", dict(type="OptimWrapper")),
    ],
)
def test_the_precision_fits_the_machine(monkeypatch, cuda, precision, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    fit_machine.fit_precision(cfg, precision)
    wrapper = dict(cfg.optim_wrapper)
    wrapper.pop("optimizer")
    assert wrapper == kind


@pytest.mark.parametrize(("capability", "is_slow"), [("AVX2", True), ("AVX512", False)])
def test_slow_bfloat16_is_said_before_the_training(monkeypatch, capability, is_slow):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    (note,) = fit_machine.fit_precision(cfg, "bf16")
    assert ("without AVX-512" in note) == is_slow


@pytest.mark.parametrize(
    ("asked", "known", "kind"),
    [
        (True, dict(avx512_bf16=True), "CpuAmpOptimWrapper"),
        (True, dict(amx_bf16=True, avx512_bf16=False), "CpuAmpOptimWrapper"),
        (True, dict(avx2=True), "OptimWrapper"),
        (False, dict(avx512_bf16=True), "OptimWrapper"),
    ],
)
def test_a_config_asks_for_bfloat16_on_cpus_that_have_it(monkeypatch, asked, known, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    cfg.bf16_on_cpu = asked
    fit_machine.fit_precision(cfg)
    assert cfg.optim_wrapper.type == kind
    fit_machine.fit_precision(cfg, "off")
    assert cfg.optim_wrapper.type == "OptimWrapper"


def test_batch_norm_is_synchronized_on_several_gpus_only(monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    fit_machine.fit_to_processes(cfg, "none")
    assert "sync_bn" not in cfg
    fit_machine.fit_to_processes(cfg, "pytorch")
    assert cfg.sync_bn == "torch"
    assert "model_wrapper_cfg" not in cfg
    assert launch.processes("pytorch") == (1, 8)


def test_training_does_without_tensorboard(monkeypatch):
    monkeypatch.setattr(fit_machine, "find_spec", lambda name: None)
    cfg = read_config(DEMO)
    assert "not installed" in fit_machine.fit_loggers(cfg)[0]
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ["LocalVisBackend"]
