"""Loads a model's backbone before training."""

from ..runtime.wrapping import unwrapped
from ..transfer.fill_backbone import fill_backbone
from .weights_hook import WeightsHook, left_out_of


class BackboneHook(WeightsHook):
    """Fills the model's backbone before the first step, strictly, after every initialization.

    The source is a file that tools/export.py wrote, a pretraining checkpoint, 'supervised'
    (torchvision's ImageNet weights) or 'none' (random); None is an error. A training that is
    resumed, or has a `load_from`, keeps those weights, which `WeightsHook` compares with the model.
    """

    priority = "VERY_HIGH"

    def __init__(self, source: str | None = None) -> None:
        self.source = source

    def before_train(self, runner) -> None:
        if runner.iter > 0:
            message = "backbone: from the resumed training"
        elif load_from := runner.cfg.get("load_from"):
            message = f"backbone: with all other weights from {load_from}"
        else:
            model, left_out = unwrapped(runner.model), left_out_of(runner)
            message = fill_backbone(model, runner.cfg.model, self.source, left_out)
        runner.logger.info(message)
        super().before_train(runner)
