"""A SlotCon that is small enough to be compared with the reference, and inputs for it."""

import torch
from mmengine.registry import MODELS
from torch import nn

import benchmarks.plain_model  # noqa: F401  (registers LastMap)
import slotcon_plugin  # noqa: F401  (registers the parts)
from slotcon_plugin.functional.alignment import align
from slotcon_plugin.functional.kernels import pixel_rows, resample


@MODELS.register_module(force=True)
class TinyEncoder(nn.Module):
    """A convolution of stride 8, and a batch norm unless `norm=False`."""

    def __init__(self, channels: int = 16, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 8, stride=8)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, images):
        return (self.norm(self.conv(images)),)


def tiny_config(num_prototypes: int = 12, channels: int = 16, **changes) -> dict:
    """A model's config: encoder and projector of 16 channels. `changes` replace its entries."""
    head = dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes=num_prototypes, channels=channels),
        group_loss=dict(type="GroupingLoss"),
        slot_loss=dict(type="SlotLoss"),
        predictor=dict(type="SlotPredictor", channels=channels, hidden_channels=24),
    )
    neck = dict(type="PixelProjector", in_channels=16, hidden_channels=24, out_channels=channels)
    return dict(type="SlotCon", backbone=dict(type="TinyEncoder"), neck=neck, head=head) | changes


def tiny_model(seed: int = 0, apart: float = 0.1, **options) -> nn.Module:
    """The model of `tiny_config(**options)`, float64, in training mode.

    Weights are noise, so that every part changes the losses, and the teacher's weights differ from
    the student's by noise of size `apart`.
    """
    torch.manual_seed(seed)
    model = MODELS.build(tiny_config(**options)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        model.teacher.start_equal(*model.student)
        for p in model.teacher.parameters():
            p.add_(apart * torch.randn_like(p))
        center = model.head.group_loss.center
        center.copy_(0.1 * torch.randn_like(center))
    model.expect_teacher_moves()
    return model


def brightness_model(student: tuple[slice, slice], teacher: tuple[slice, slice]) -> nn.Module:
    """A model that only distinguishes bright images from dark ones.

    Args:
        student, teacher: the prototypes of bright images and those of dark images.
    """
    model = tiny_model(
        backbone=dict(type="TinyEncoder", norm=False), neck=dict(type="LastMap"), apart=0
    )
    with torch.no_grad():
        for encoder in (model.backbone, model.teacher.backbone):
            encoder.conv.weight -= encoder.conv.weight.mean(dim=(1, 2, 3), keepdim=True)
            encoder.conv.weight[0] = 0.01  # channel 0 alone depends on the brightness
        for part, (bright, dark) in ((model.head, student), (model.teacher, teacher)):
            part.prototypes.weight[:, 0] = 0
            part.prototypes.weight[bright, 0] = 9
            part.prototypes.weight[dark, 0] = -9
    return model


def aligned(maps_bdhw, boxes_b4, flips_b):
    """Maps of one view, resampled as the grouping loss does: (b, d, h, w)."""
    size = maps_bdhw.shape[2:]
    alignment = align(boxes_b4.to(maps_bdhw.dtype), flips_b, *size)
    return resample(pixel_rows(maps_bdhw), *alignment).transpose(1, 2).unflatten(2, size)


def random_views(batch: int, size: int = 32, seed: int = 0) -> list[torch.Tensor]:
    """Two views of blocks and noise, (batch, 3, size, size) float64."""
    g = torch.Generator().manual_seed(1000 + seed)
    coarse = torch.randn(2, batch, 3, 4, 4, generator=g, dtype=torch.float64)
    fine = torch.randn(2, batch, 3, size, size, generator=g, dtype=torch.float64)
    blocks = coarse.repeat_interleave(size // 4, 3).repeat_interleave(size // 4, 4)
    return list(blocks + 0.3 * fine)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients of the trained parameters; zeros where there is none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }
