"""Loads a model's backbone before training."""

from ..runtime.wrapping import unwrapped
from ..transfer.fill_backbone import fill_backbone
from .weights_hook import WeightsHook, left_out_of

RECORD = "backbone"  # in a checkpoint's meta: where backbone and decoder are from


class BackboneHook(WeightsHook):
    """Fills the model's backbone before the first step, strictly, after every initialization.

    A file of a pretraining with a decoder (DeCon) fills the model's decoder too, if it is one of
    the same class; `parts="encoder"` leaves it out. Where the weights are from is logged, and
    recorded in `meta` of each checkpoint.

    The source is a file that slotcon export wrote, a pretraining checkpoint, 'supervised'
    (torchvision's ImageNet weights), 'timm' (timm's own weights of a `TimmEncoder`) or 'none'
    (random); None is an error. A training that is resumed, or has a `load_from`, keeps those
    weights, which `WeightsHook` compares with the model.
    """

    priority = "VERY_HIGH"

    def __init__(self, source: str | None = None, parts: str = "all") -> None:
        self.source, self.parts = source, parts
        self.report: str | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        super().after_load_checkpoint(runner, checkpoint)
        if runner._resume:
            self.report = checkpoint.get("meta", {}).get(RECORD)

    def before_train(self, runner) -> None:
        if runner.iter > 0:
            message = "backbone: from the resumed training"
        elif load_from := runner.cfg.get("load_from"):
            message = self.report = f"backbone: with all other weights from {load_from}"
        else:
            model, left_out = unwrapped(runner.model), left_out_of(runner)
            message = fill_backbone(model, runner.cfg.model, self.source, left_out, self.parts)
            self.report = message
        for line in message.splitlines():
            runner.logger.info(line)
        super().before_train(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        super().before_save_checkpoint(runner, checkpoint)
        if self.report:
            checkpoint["meta"][RECORD] = self.report
