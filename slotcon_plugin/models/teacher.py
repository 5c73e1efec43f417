"""The teacher: a moving average of the student that is never trained."""

import copy

import torch
from torch import Tensor, nn

from ..functional.grouping import Grouping


class Teacher(nn.Module):
    """Copies of encoder, projector and prototypes, with batch-norm statistics of their own.

    While the student trains, these layers are in training mode, so that the statistics are those of
    the teacher's own features; they are never copied from the student, and they are what is
    exported. All other layers are always in evaluation mode: dropout and stochastic depth are the
    student's alone, and the teacher's output is a function of the images. Wherever `student` is an
    argument, it is the student's backbone, neck and prototypes, in this order.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, prototypes: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck, self.prototypes = copy.deepcopy((backbone, neck, prototypes))
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """Set the mode of the layers that have statistics; see above."""
        super().train(False)
        for part in self.modules():
            if part is self or hasattr(part, "running_mean"):
                part.training = mode
        return self

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
