"""Which configs are transfers, and what their adaptation to the machine needs."""

import sys

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from slotcon_plugin.apis.train_detectron2 import train_detectron2
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.hooks.backbone_hook import BackboneHook
from slotcon_plugin.models.slotcon import SlotCon
from slotcon_plugin.runtime.fit_machine import fit_workers
from slotcon_plugin.transfer.fill_backbone import backbone_hook
from slotcon_plugin.transfer.fit_transfer import fit_transfer, is_transfer, keep_only_test


class Variant(SlotCon):
    """A user's SlotCon."""


@pytest.mark.parametrize(
    "kind", ["SlotCon", "mmengine.SlotCon", "slotcon_plugin.models.slotcon.SlotCon", SlotCon]
)
def test_slotcon_is_pretraining_by_name_scope_and_class(kind):
    cfg = Config(dict(model=dict(type=kind)))
    assert not is_transfer(cfg)
    assert fit_transfer(cfg, 1, precision="bf16") == []


def test_subclasses_of_slotcon_are_pretraining(monkeypatch):
    assert not is_transfer(Config(dict(model=dict(type=Variant))))
    named = Config(dict(model=dict(type="Variant")))
    assert is_transfer(named)
    monkeypatch.setitem(MODELS.module_dict, "Variant", Variant)
    assert not is_transfer(named)


@pytest.mark.parametrize("kind", ["MaskRCNN", "mmdet.MaskRCNN", "Detectron2Wrapper", dict, None])
def test_other_models_are_transfers(kind):
    assert is_transfer(Config(dict(model=dict(type=kind) if kind else {})))


@pytest.mark.parametrize("kind", ["BackboneHook", "mmengine.BackboneHook", BackboneHook])
@pytest.mark.parametrize("where", ["custom", "default"])
def test_the_backbone_hook_is_found_by_name_scope_and_class(kind, where):
    hook = dict(type=kind, source="none")
    hooks = dict(custom=dict(custom_hooks=[hook]), default=dict(default_hooks=dict(x=hook, y=None)))
    assert backbone_hook(Config(hooks[where])).source == "none"
    assert backbone_hook(Config(dict(custom_hooks=[dict(type="EMAHook")]))) is None


def test_without_detectron2_an_error_names_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(ConfigError, match=r"detectron2 cannot be imported .*install\.html"):
        train_detectron2("x.yaml")


def test_evaluation_needs_no_training_entries(monkeypatch):
    """As in apis/test.py: a config with a test set alone can be evaluated."""
    test = dict(test_dataloader=dict(num_workers=10**6), test_evaluator=dict(type="IoUMetric"))
    alone, whole = (
        Config(dict(test)),
        Config(dict(**test, train_dataloader=dict(), val_evaluator=dict(), optim_wrapper=dict())),
    )
    for cfg in (alone, whole):
        keep_only_test(cfg, "x.py")
        assert cfg.keys() == test.keys()
        assert fit_workers(cfg) == []
        assert cfg.test_dataloader.num_workers < 10**6
    with pytest.raises(ConfigError, match=r"x\.py has no test_dataloader and test_evaluator"):
        keep_only_test(Config(dict(train_dataloader=dict())), "x.py")
