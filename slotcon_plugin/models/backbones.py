"""The default encoder: torchvision's ResNets, with torchvision's parameter names."""

import torchvision
from torch import Tensor, nn

DEPTHS = (18, 34, 50, 101, 152)


class TorchvisionResNet(nn.Module):
    """A ResNet without its classifier, of depth 18, 34, 50, 101 or 152.

    Initialized as in the published code: convolutions He-normal (fan out), the last batch-norm
    scale of every residual block zero. The first `num_stages` stages, 1-4, are kept: four give
    stride 32, three stride 16.
    """

    def __init__(self, depth: int = 50, num_stages: int = 4) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth is {depth!r}, expected one of {DEPTHS}.")
        if num_stages not in (1, 2, 3, 4):
            raise ValueError(f"num_stages is {num_stages!r}, expected 1, 2, 3 or 4.")
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None, zero_init_residual=True)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.stages = [f"layer{i + 1}" for i in range(num_stages)]
        for name in self.stages:
            setattr(self, name, getattr(net, name))

    def forward(self, images_b3hw: Tensor) -> tuple[Tensor]:
        """Encode normalized images. Returns the last map in a tuple: (b, c, h / s, w / s)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images_b3hw))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return (x,)
