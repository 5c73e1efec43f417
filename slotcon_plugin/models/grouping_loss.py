"""The grouping loss as a module: it holds the center and the temperatures."""

import torch
from torch import Tensor, nn

from ..functional.alignment import Alignment
from ..functional.checks import check_integers, check_numbers
from ..functional.collectives import mean_over_processes
from ..functional.diagnostics import assignment_entropy
from ..functional.losses import DIRECTIONS, grouping_loss, moved_center


class GroupingLoss(nn.Module):
    """Both views of an image are to be grouped alike (section 3.1 of the paper).

    Args:
        num_prototypes: k, at least 2.
        student_temperature, teacher_temperature: of the two softmax assignments, positive.
        center_momentum: the share of the center that a step keeps, in [0, 1].
    """

    def __init__(
        self,
        num_prototypes: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        check_integers(2, num_prototypes=num_prototypes)
        check_numbers("(0, inf)", student_temperature=student_temperature)
        check_numbers("(0, inf)", teacher_temperature=teacher_temperature)
        check_numbers("[0, 1]", center_momentum=center_momentum)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, num_prototypes))

    def forward(
        self,
        student_scores: list[Tensor],
        teacher_scores: list[Tensor],
        alignments: list[Alignment],
    ) -> Tensor:
        """The loss of each direction, (2,), from *unaligned* scores, (b, k, h, w) of each view."""
        settings = self.center, self.student_temperature, self.teacher_temperature
        losses = []
        for s, t in DIRECTIONS:
            views = student_scores[s], teacher_scores[t], alignments[s], alignments[t]
            losses.append(grouping_loss(*views, *settings))
        return torch.stack(losses)

    @torch.no_grad()
    def move_center(self, teacher_scores: list[Tensor]) -> None:
        """Move the center towards the mean of *unaligned* scores over all views and processes."""
        means_vk = torch.stack([scores_bkhw.mean(dim=(0, 2, 3)) for scores_bkhw in teacher_scores])
        mean_1k = mean_over_processes(means_vk.mean(dim=0, keepdim=True))
        self.center.copy_(moved_center(self.center, mean_1k, self.center_momentum))

    @torch.no_grad()
    def diagnose(self, teacher_scores: list[Tensor]) -> dict[str, Tensor]:
        """Diagnostics of the *unaligned* scores of both views."""
        entropies = [assignment_entropy(view, self.teacher_temperature) for view in teacher_scores]
        entropy = torch.stack(entropies).mean()
        return dict(assignment_entropy=entropy, center_norm=self.center.norm())
