"""Evaluation of a trained detector or segmentation network."""

from mmengine.config import Config
from torch import nn

from ..errors import CheckpointError, ConfigError
from ..runtime.wrapping import unwrapped

NAMED = 8  # keys that a message names


def keep_only_test(cfg: Config, name: str) -> None:
    """Take out of a config what only training needs, so that it asks for no training data.

    Raises:
        ConfigError: the config has no test set, as those of pretraining.
    """
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise ConfigError(
            f"{name} has no test_dataloader and test_evaluator, so there is nothing to evaluate. "
            "configs/det and configs/seg have."
        )
    for part in ("train", "val"):
        for entry in (f"{part}_dataloader", f"{part}_cfg", f"{part}_evaluator"):
            cfg.pop(entry, None)
    for entry in ("optim_wrapper", "param_scheduler", "auto_scale_lr"):
        cfg.pop(entry, None)


def check_weights(model: nn.Module, checkpoint: dict, path: str) -> None:
    """A checkpoint must hold exactly the model's weights; MMEngine would go on with a warning.

    Raises:
        CheckpointError: keys are missing, unknown or of another shape.
    """
    model = unwrapped(model)
    given = checkpoint.get("state_dict", checkpoint)
    wanted = model.state_dict()
    wrong = [f"{key} is missing" for key in wanted if key not in given]
    wrong += [f"{key} is not in the model" for key in given if key not in wanted]
    wrong += [
        f"{key} has shape {tuple(given[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    if wrong:
        more = f"\n  and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise CheckpointError(
            f"{path} does not fit the config's model ({type(model).__name__}):\n  "
            + "\n  ".join(wrong[:NAMED])
            + more
            + "\nEvaluate with the config that it was trained with."
        )
