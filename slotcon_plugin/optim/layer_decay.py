"""Learning rates that fall from the last layer of an encoder to its first."""

import logging
import re

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..errors import ConfigError
from ..runtime.extras import import_extra

# The layers of a ResNet with torchvision's names, in the form of timm's `group_matcher`.
RESNET = dict(stem=r"^(?:conv1|bn1)\.", blocks=r"^layer(\d+)\.(\d+)\.")


class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with layer-wise learning rates in the model's `backbone`.

    A tensor of the layer that is n-th from the top of the encoder, from 1 on, has the learning rate
    `lr * layer_decay**n`; tensors outside the encoder have `lr` (BEiT, arXiv 2106.08254, appendix;
    ViTDet, arXiv 2203.16527). A layer is a block, or of some models a stage, as timm groups the
    tensors: patch and position embeddings or the stem are the first layer; a downsampling belongs
    to the block that follows it, and the last norm to the last block. In a config:

        optim_wrapper = dict(
            constructor="LayerDecayConstructor",
            paramwise_cfg=dict(layer_decay=0.75, norm_decay_mult=0.0),
        )

    `paramwise_cfg` has MMEngine's entries and `layer_decay`, above 0 and at most 1; their factors
    are multiplied. Groups of the optimizer have their factor as `lr_scale`.

    Raises:
        ConfigError: `layer_decay` is missing or out of range, or the layers are not known.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay = decay = self.paramwise_cfg.get("layer_decay")
        if type(decay) not in (int, float) or not 0 < decay <= 1:
            raise ConfigError(
                f"optim_wrapper.paramwise_cfg.layer_decay is {decay!r}, expected a number above 0 "
                "and at most 1, e.g. 0.75; without optim_wrapper.constructor all rates are equal."
            )

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **rest) -> None:
        """Add the groups of the parameters of a module; MMEngine calls it for each submodule."""
        super().add_params(params, module, prefix, **rest)
        if prefix:
            return
        if not isinstance(getattr(module, "backbone", None), nn.Module):
            raise ConfigError(f"LayerDecayConstructor: {type(module).__name__} has no backbone.")
        layers = layers_of(module.backbone)
        count = 1 + max(layers.values())
        scales = {
            id(p): self.decay ** (count - layers[name])
            for name, p in module.backbone.named_parameters()
        }
        for group in params:
            (p,) = group["params"]
            group["lr_scale"] = scales.get(id(p), 1.0)
            group["lr"] = group.get("lr", self.base_lr) * group["lr_scale"]
        lowest, highest = (self.base_lr * self.decay**n for n in (count, 1))
        print_log(
            f"learning rates of the {count} layers of {type(module.backbone).__name__}: "
            f"{lowest:.3g} to {highest:.3g}; outside it {self.base_lr:g}",
            "current",
            logging.INFO,
        )


def layers_of(encoder: nn.Module) -> dict[str, int]:
    """The layer of each parameter of an encoder, from 0 on, as its `group_matcher` has them.

    Without one it must be a ResNet with torchvision's names, of any library.
    """
    group_parameters = import_extra("timm.models", "timm", "Layer-wise rates").group_parameters
    if hasattr(encoder, "group_matcher"):
        return group_parameters(encoder, encoder.group_matcher(), reverse=True)
    patterns = re.compile("|".join(RESNET.values()))
    if others := [name for name, _ in encoder.named_parameters() if not patterns.match(name)]:
        raise ConfigError(
            f"LayerDecayConstructor: the layers of {type(encoder).__name__} are not known "
            f"(of {others[0]}, for example). They are of TimmEncoder and of ResNets with "
            "torchvision's names."
        )
    return group_parameters(encoder, RESNET, reverse=True)
