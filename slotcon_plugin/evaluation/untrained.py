"""The network of a pretraining's config before its training, as the content of a checkpoint."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ..checkpoints.left_out import LeftOut, check_initial_weights
from ..errors import ConfigError
from ..runtime.config_options import read_config
from ..runtime.explain_errors import explained_errors
from ..runtime.process_state import only_warnings
from ..runtime.recipe_rules import auto_entries, fill_auto
from ..runtime.safe_loading import safe_loader


def untrained_content(config: str, seed: int, prototypes: int | None = None) -> dict:
    """What the checkpoint of a training would have before its first step: weights and config.

    `prototypes` is their number where the config says "auto"; None: that for 1,000 images.
    """
    cfg = read_config(config)
    if not cfg.get("model"):
        raise ConfigError(f"{config} is not the config of a pretraining: it has no model.")
    if prototypes:
        numbers = (key for key in auto_entries(cfg) if key.endswith(".num_prototypes"))
        fill_auto(cfg, dict.fromkeys(numbers, prototypes))
    return dict(state_dict=build_untrained(cfg, seed).state_dict(), meta=dict(cfg=cfg.pretty_text))


def build_untrained(cfg: Config, seed: int) -> nn.Module:
    """The model of a pretraining's config as its training starts, without weights of `load_from`.

    Torch's random numbers are those of `seed`, and the same as before afterwards.
    """
    fill_auto(cfg)
    with torch.random.fork_rng(devices=()), only_warnings(), explained_errors(cfg), safe_loader():
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        check_initial_weights(model, LeftOut(cfg.get("allow_missing")))
        model.init_weights()
    return model
