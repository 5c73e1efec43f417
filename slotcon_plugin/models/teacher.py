"""The teacher: a moving average of the student that is never trained."""

import copy

import torch
from torch import Tensor, nn

from ..functional.grouping import Grouping


class Teacher(nn.Module):
    """Copies of encoder, projector and prototypes, with batch-norm statistics of their own.

    It runs in training mode while the student trains, so that its statistics are those of its own
    features; they are never copied from the student, and they are what is exported. Wherever
    `student` is an argument, it is the student's backbone, neck and prototypes, in this order.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, prototypes: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck, self.prototypes = copy.deepcopy((backbone, neck, prototypes))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images_b3hw: Tensor) -> Grouping:
        """Group one view, without gradient."""
        return self.prototypes(self.neck(self.backbone(images_b3hw)))

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
