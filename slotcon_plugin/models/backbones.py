"""The default encoder: torchvision's ResNets, with torchvision's parameter names."""

import math
from collections.abc import Sequence

import torchvision
from torch import Tensor, nn

DEPTHS = (18, 34, 50, 101, 152)
STEM_STRIDE = 4
STRIDES = (1, 2, 2, 2)  # of the four stages


def spatial_conv(block: nn.Module) -> nn.Conv2d:
    """The 3x3 convolution of a residual block that has its stride and its dilation."""
    return block.conv2 if hasattr(block, "conv3") else block.conv1


class TorchvisionResNet(nn.Module):
    """A ResNet without its classifier, of depth 18, 34, 50, 101 or 152.

    Initialized as in the published code: convolutions He-normal (fan out), the last batch-norm
    scale of every residual block zero. The first `num_stages` stages, 1-4, are kept: four give
    stride 32, three stride 16. A decoder needs the maps of all stages: `out_indices=(0, 1, 2, 3)`,
    where stage 0 has stride 4; by default only the last one is returned.

    `strides` and `dilations` have one number for each stage, as mmdet's and mmseg's ResNets have
    them: (1, 2, 1, 1) and (1, 1, 2, 4) give stride 8. By default the strides are 2 after the first
    stage, and nothing is dilated. With `contract_dilation` the first block of each stage has the
    dilation of the stage before, as with torchvision's `replace_stride_with_dilation`. Names and
    shapes of the weights are the same.
    """

    def __init__(
        self,
        depth: int = 50,
        num_stages: int = 4,
        out_indices: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        contract_dilation: bool = False,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth is {depth!r}, expected one of {DEPTHS}.")
        if num_stages not in (1, 2, 3, 4):
            raise ValueError(f"num_stages is {num_stages!r}, expected 1, 2, 3 or 4.")
        last = num_stages - 1
        self.out_indices = (last,) if out_indices is None else tuple(out_indices)
        stages = sorted(set(self.out_indices) & set(range(num_stages)))
        if list(self.out_indices) != stages or self.out_indices[-1:] != (last,):
            raise ValueError(
                f"out_indices is {out_indices!r}, expected stages from 0 to {last} in ascending "
                f"order; the last one is {last}, or the stages after it would not be trained."
            )
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None, zero_init_residual=True)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.stages = [f"layer{i + 1}" for i in range(num_stages)]
        strides = STRIDES[:num_stages] if strides is None else strides
        dilations = (1,) * num_stages if dilations is None else dilations
        if not all(
            isinstance(one, list | tuple)
            and len(one) == num_stages
            and all(type(n) is int and n > 0 for n in one)
            for one in (strides, dilations)
        ):
            raise ValueError(
                f"strides is {strides!r} and dilations is {dilations!r}, expected {num_stages} "
                "numbers from 1 on in each, one for each stage."
            )
        if depth < 50 and strides[0] != 1:
            raise ValueError(f"strides is {strides}; stage 0 of ResNet-{depth} has stride 1.")
        before = 1
        for name, stride, dilation in zip(self.stages, strides, dilations):
            stage = getattr(net, name)
            setattr(self, name, stage)
            for block in stage:
                conv = spatial_conv(block)
                conv.stride, conv.dilation, conv.padding = (1, 1), (dilation,) * 2, (dilation,) * 2
            first = spatial_conv(stage[0])
            first.stride = (stride, stride)
            if contract_dilation:
                first.dilation = first.padding = (before,) * 2
            before = dilation
            if stage[0].downsample is not None:
                stage[0].downsample[0].stride = (stride, stride)

    @property
    def output_stride(self) -> int:
        """How many pixels of an image the positions of the last map are apart."""
        strides = [spatial_conv(getattr(self, name)[0]).stride[0] for name in self.stages]
        return STEM_STRIDE * math.prod(strides)

    def set_output_stride(self, output_stride: int) -> None:
        """Replace strides by dilations, the last ones first, for a last map of this stride.

        All values of the coarser map are in the finer one, and those between are what a shifted
        image would have ("à trous": Chen et al., ICLR 2015, arXiv 1412.7062). ValueError if no
        strides multiply to it.
        """
        factor = self.output_stride // STEM_STRIDE
        possible = [STEM_STRIDE * n for n in range(1, factor + 1) if factor % n == 0]
        if output_stride not in possible:
            raise ValueError(f"expected one of {', '.join(map(str, possible))}")
        remaining, density = output_stride // STEM_STRIDE, 1  # how much finer the maps are here
        for block in (block for name in self.stages for block in getattr(self, name)):
            spatial = spatial_conv(block)
            stride = spatial.stride[0]
            kept = math.gcd(stride, remaining)
            remaining //= kept
            for conv in block.children():
                if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1):
                    conv.dilation = conv.padding = (density * conv.dilation[0],) * 2
                if conv is spatial:
                    conv.stride, density = (kept, kept), density * stride // kept
            if block.downsample is not None:
                block.downsample[0].stride = (kept, kept)

    def forward(self, images_b3hw: Tensor) -> tuple[Tensor, ...]:
        """Encode normalized images: the maps of `out_indices`, (b, c, h / s, w / s) each."""
        x, maps = self.maxpool(self.relu(self.bn1(self.conv1(images_b3hw)))), []
        for i, name in enumerate(self.stages):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)
