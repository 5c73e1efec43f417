"""The teacher: a moving average of the student that is never trained."""

import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..functional.grouping import Grouping
from .decoders import LateralDropout


class Parts(NamedTuple):
    """What student and teacher have alike; a part that is None is absent."""

    backbone: nn.Module
    neck: nn.Module | None  # of the encoder's last map, like `prototypes`
    prototypes: nn.Module | None
    decoder: nn.Module | None = None
    decoder_necks: Sequence[nn.Module] = ()  # of each of its levels, like `decoder_prototypes`
    decoder_prototypes: Sequence[nn.Module] = ()

    @property
    def necks(self) -> list[nn.Module]:
        """The projectors of all levels."""
        return [neck for neck in (self.neck, *self.decoder_necks) if neck is not None]

    def group(self, images_b3hw: Tensor) -> Iterator[Grouping]:
        """Group one view on each level: the encoder's last map, then the decoder's maps."""
        maps = self.backbone(images_b3hw)
        if self.neck is not None:
            yield self.prototypes(self.neck(maps))
        if self.decoder is not None:
            decoded = self.decoder(maps)
            decoded = [decoded] if isinstance(decoded, Tensor) else decoded
            if len(decoded) < len(self.decoder_necks):
                raise ConfigError(
                    f"The decoder gives {len(decoded)} maps, but there are heads for "
                    f"{len(self.decoder_necks)}: give decoder_head at most one entry for each map."
                )
            levels = zip(self.decoder_necks, self.decoder_prototypes, decoded, strict=False)
            for neck, prototypes, map_bchw in levels:
                yield prototypes(neck((map_bchw,)))


class Teacher(nn.Module):
    """Copies of the student's `Parts`, with batch-norm statistics of their own.

    While the student trains, these layers are in training mode, so that the statistics are those of
    the teacher's own features; they are never copied from the student, and they are what is
    exported. All other layers are always in evaluation mode: dropout and stochastic depth are the
    student's alone, and the teacher's output is a function of the images; except `LateralDropout`,
    which is the teacher's too. Wherever `student` is an argument, it is the student's parts that
    exist, in the order of `Parts`.
    """

    def __init__(self, *student: nn.Module | None) -> None:
        super().__init__()
        for name, part in copy.deepcopy(Parts(*student)._asdict()).items():
            setattr(self, name, part)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Set the mode of the layers that have statistics; see above."""
        super().train(False)
        for part in self.modules():
            if part is self or hasattr(part, "running_mean") or isinstance(part, LateralDropout):
                part.training = mode
        return self

    @property
    def parts(self) -> Parts:
        """Its own parts."""
        return Parts(*(getattr(self, name) for name in Parts._fields))

    @torch.no_grad()
    def forward(self, images_b3hw: Tensor, levels: int | None = None) -> list[Grouping]:
        """Group one view on the first `levels`, by default on all, without gradient."""
        return list(islice(self.parts.group(images_b3hw), levels))

    def start_equal(self, *student: nn.Module) -> None:
        """Copy the student's weights and buffers, once, after the student was initialized."""
        for own, students in zip(self.children(), student, strict=True):
            own.load_state_dict(students.state_dict())

    def follow(self, *student: nn.Module, momentum: float) -> None:
        """Move every parameter: `θ_t ← m θ_t + (1 − m) θ_s`. Buffers do not change."""
        students = [p for part in student for p in part.parameters()]
        follow(list(self.parameters()), students, momentum)


@torch.no_grad()
def follow(teacher: list[Tensor], student: list[Tensor], momentum: float) -> None:
    """`θ_t ← m θ_t + (1 − m) θ_s` for all tensors at once, in place; m in [0, 1]."""
    torch._foreach_lerp_(teacher, student, 1 - momentum)
