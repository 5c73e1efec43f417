"""Any model of timm as an encoder, in pretraining, in mmdet and in mmseg."""

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import initialize
from torch import Tensor, nn

from ..errors import ConfigError
from ..runtime.config_options import did_you_mean
from ..runtime.extras import import_extra

# Options of timm's classes that let the position embeddings follow the size of the images.
ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}
# Options that cannot be set to another value than this one.
FIXED = {
    "num_classes": (None, "the classifier is removed"),
    "in_chans": (3, "images are RGB, gray ones too"),
    "features_only": (False, "out_indices selects the maps"),
}
# Options of `timm.create_model` that read or download files.
READING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


class TimmEncoder(nn.Module):
    """A timm model without its classifier, with timm's parameter names.

    What no output depends on is removed: the classifier and the layers after the last output.
    Images are padded at the right and at the bottom to multiples of the patch size. Transformers
    whose position embeddings can be interpolated take images of any size.

    Args:
        name: of the model in timm, e.g. "convnext_tiny" or "vit_small_patch16_224".
        out_indices: which of timm's feature maps are returned, from the finest on; negative ones
            count from the last.
        init_cfg: MMEngine's initialization config; by default the model's own initialization.
        options: further arguments of `timm.create_model`, e.g. `drop_path_rate=0.1` or, of models
            for images of one size, `img_size=96`; none that load weights: --backbone does it.

    Attributes:
        channels, strides: of the returned maps, in pixels of the image.

    Raises:
        ConfigError: timm is missing, or does not have this model, output or option; or, in
            `forward`, the model does not take images of this size.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (-1,),
        init_cfg: dict | list[dict] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.init_cfg = init_cfg
        for option, (value, reason) in FIXED.items():
            if options.get(option, value) != value:
                raise ConfigError(
                    f"TimmEncoder: {option}={options[option]!r} cannot be set, since {reason}. "
                    f"Remove `{option}` from the config."
                )
        self.options = dict(options, name=name)
        net = create(name, num_classes=0, **options)
        count = len(net.feature_info)
        outputs = [index % count for index in out_indices if -count <= index < count]
        if not outputs or len(outputs) < len(out_indices) or outputs != sorted(set(outputs)):
            raise ConfigError(
                f"TimmEncoder: out_indices={tuple(out_indices)}, but {name} has {count} feature "
                f"maps: expected increasing numbers from 0 to {count - 1}, or -{count} to -1."
            )
        self.outputs = outputs
        net.prune_intermediate_layers(outputs, prune_norm=False, prune_head=True)
        self.channels = tuple(net.feature_info[i]["num_chs"] for i in outputs)
        self.strides = tuple(net.feature_info[i]["reduction"] for i in outputs)
        patches = getattr(getattr(net, "patch_embed", None), "proj", None)
        self.patch_size = patches.stride if isinstance(patches, nn.Conv2d) else (1, 1)
        # The net is no submodule: it shares its tensors, so their names are timm's.
        self.__dict__["net"] = net
        self._parameters, self._buffers, self._modules = net._parameters, net._buffers, net._modules
        self._non_persistent_buffers_set = net._non_persistent_buffers_set

    def init_weights(self) -> None:
        """As MMEngine calls it, after the model was built."""
        if self.init_cfg:
            initialize(self, self.init_cfg)

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns of the names of each layer's parameters; see timm's `group_parameters`."""
        if not hasattr(self.net, "group_matcher"):
            raise ConfigError(f"timm does not know the layers of its {type(self.net).__name__}.")
        return self.net.group_matcher(coarse)

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Set the mode of the model, too."""
        self.net.training = mode
        return super().train(mode)

    def forward(self, images_b3hw: Tensor) -> tuple[Tensor, ...]:
        """Encode normalized images. Returns a map (b, c, h / s, w / s) for each output."""
        height, width = images_b3hw.shape[2:]
        bottom, right = -height % self.patch_size[0], -width % self.patch_size[1]
        if bottom or right or torch.compiler.is_exporting():  # where sizes are not known
            images_b3hw = F.pad(images_b3hw, (0, right, 0, bottom))
        if torch.compiler.is_compiling():
            return self._maps(images_b3hw)
        try:
            return self._maps(images_b3hw)
        except (AssertionError, RuntimeError) as error:
            self._check_size(height, width, error)
            raise

    def _maps(self, images_b3hw: Tensor) -> tuple[Tensor, ...]:
        options = dict(indices=self.outputs, output_fmt="NCHW", intermediates_only=True)
        return tuple(self.net.forward_intermediates(images_b3hw, norm=True, **options))

    @torch.no_grad()
    def _check_size(self, height: int, width: int, error: Exception) -> None:
        """Raise ConfigError if the model takes other sizes of images than this one."""

        def takes(height: int, width: int, **options: Any) -> bool:
            with torch.device("meta"):
                try:
                    net = create(num_classes=0, **{**self.options, **options})
                    net.forward_intermediates(torch.empty(2, 3, height, width), norm=True)
                except Exception:  # of any model
                    return False
            return True

        own = self.options.get("img_size") or self.net.pretrained_cfg["input_size"][1:]
        own = tuple(own) if isinstance(own, list | tuple) else (own, own)
        if (height, width) == own or takes(height, width) or not takes(*own):
            return
        size = height if height == width else (height, width)
        other = f", or set img_size={size} in the backbone's config"
        raise ConfigError(
            f"timm's {self.options['name']} does not take images of {height} x {width} pixels "
            f"({str(error).rstrip('.')}). Give it images of {own[0]} x {own[1]} pixels, in a "
            f"pretraining `train_dataloader.dataset.views.size={own[0]}`"
            + other * takes(height, width, img_size=size)
            + "."
        ) from error


def create(name: str, **options: Any) -> nn.Module:
    """timm's model with random weights; wrong names and options raise ConfigError."""
    timm = _timm()
    if reading := [option for option in READING if options.get(option)]:
        raise ConfigError(
            f"TimmEncoder does not load weights by itself: remove `{reading[0]}` from the config "
            "and give --backbone timm, or --backbone FILE with weights of this model."
        )
    if not isinstance(name, str) or not timm.is_model(name):  # it may name an address
        close = did_you_mean(str(name), timm.list_models())
        raise ConfigError(f"The model {name!r} is not in timm.list_models().{close}")
    try:
        net = timm.create_model(name, **with_any_size(name, options))
    except Exception as error:  # of any model, for wrong options
        raise ConfigError(
            f"timm cannot build the model {name!r} with {options}: {error}"
        ) from error
    if not hasattr(net, "forward_intermediates") or not hasattr(net, "prune_intermediate_layers"):
        raise ConfigError(
            f"timm's {name} does not return feature maps (it has no forward_intermediates); use "
            "another model."
        )
    return net


def with_any_size(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, and those of ANY_SIZE that a model takes."""
    accepted = accepted_options(name, options)
    return {key: value for key, value in ANY_SIZE.items() if key in accepted} | options


def accepted_options(name: str, options: dict[str, Any]) -> set[str]:
    """The names of the options that the class of timm's model takes."""
    with torch.device("meta"):
        kind = type(_timm().create_model(name, **options))
    return {n for base in kind.__mro__ for n in inspect.signature(base.__init__).parameters}


def _timm() -> ModuleType:
    return import_extra("timm", "timm", "An encoder of timm")
