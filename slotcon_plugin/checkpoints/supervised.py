"""torchvision's ResNets trained on ImageNet with labels: the file, downloaded once."""

from pathlib import Path

import torch
import torchvision

from ..errors import CheckpointError, ConfigError


def supervised_file(depth: int) -> Path:
    """torchvision's ResNet trained on ImageNet with labels, IMAGENET1K_V1.

    It is downloaded once, by torch, into TORCH_HOME.

    Raises:
        ConfigError: torchvision has no such ResNet.
        CheckpointError: the file is not there and cannot be downloaded.
    """
    name = f"resnet{depth}"
    try:
        weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    except ValueError:
        raise ConfigError(f"torchvision has no {name}: depths are 18, 34, 50, 101, 152.") from None
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sign = path.stem.rpartition("-")[2]  # the beginning of the file's SHA-256
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=sign)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"torchvision's weights cannot be had: {error}. Download {weights.url} elsewhere "
                f"and put it into {path.parent}."
            ) from None
    return path
