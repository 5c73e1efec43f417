"""Loads a model's backbone before training."""

from mmengine.hooks import Hook

from ..runtime.wrapping import unwrapped
from ..transfer.fill_backbone import fill_backbone


class BackboneHook(Hook):
    """Fills the model's backbone before the first step, strictly, after every initialization.

    It works in any training script of MMEngine, mmdet or mmseg. A training that is resumed, or
    whose `load_from` has weights for the whole model, keeps those.

    Args:
        source: a file that tools/export.py wrote, a pretraining checkpoint, 'supervised'
            (torchvision's ImageNet weights) or 'none' (random). No source is an error: see
            `check_source`.
    """

    priority = "VERY_HIGH"

    def __init__(self, source: str | None = None) -> None:
        self.source = source

    def before_train(self, runner) -> None:
        """Fill the backbone, or raise an error."""
        if runner.iter > 0:
            runner.logger.info("backbone: from the resumed training")
            return
        if runner.cfg.get("load_from"):
            runner.logger.info(f"backbone: with all other weights from {runner.cfg.load_from}")
            return
        model = unwrapped(runner.model)
        runner.logger.info(fill_backbone(model, runner.cfg.model, self.source))
