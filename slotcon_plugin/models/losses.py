"""The two losses as modules: they hold state (a center, temperatures) and call `functional`."""

import torch
from torch import Tensor, nn

from ..functional import diagnostics, losses
from ..functional.alignment import Alignment
from ..functional.collectives import gather_rows, mean_over_processes, rank, share_counts
from ..functional.grouping import ActiveSlots, Grouping, pool_slots, slot_mask

DIRECTIONS = ((0, 1), (1, 0))  # (the student's view, the teacher's view)


class GroupingLoss(nn.Module):
    """Both views should be grouped alike. Holds the center of the teacher's scores.

    Args:
        num_prototypes: k.
        student_temperature, teacher_temperature: softmax temperatures of the two assignments.
        center_momentum: the share of the center that a step keeps.
    """

    def __init__(
        self,
        num_prototypes: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
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
        """Compare the two views where they show the same place.

        Args:
            student_scores, teacher_scores: unaligned scores of the two views, (b, k, h, w) each.
            alignments: the two views', p = h · w.

        Returns:
            (2,): a loss per direction.
        """
        return torch.stack(
            [
                losses.grouping_loss(
                    student_scores[s],
                    teacher_scores[t],
                    alignments[s],
                    alignments[t],
                    self.center,
                    self.student_temperature,
                    self.teacher_temperature,
                )
                for s, t in DIRECTIONS
            ]
        )

    @torch.no_grad()
    def move_center(self, teacher_scores: list[Tensor]) -> None:
        """Move the center towards the mean of *unaligned* scores, (b, k, h, w) of each view.

        The mean runs over views, images, pixels and processes.
        """
        means_vk = torch.stack([scores_bkhw.mean(dim=(0, 2, 3)) for scores_bkhw in teacher_scores])
        mean_1k = mean_over_processes(means_vk.mean(dim=0, keepdim=True))
        self.center.copy_(losses.moved_center(self.center, mean_1k, self.center_momentum))

    @torch.no_grad()
    def diagnose(self, teacher_scores: list[Tensor]) -> dict[str, Tensor]:
        """What to log of the teacher's *unaligned* scores, (b, k, h, w) of each view."""
        entropies = [
            diagnostics.assignment_entropy(scores_bkhw, self.teacher_temperature)
            for scores_bkhw in teacher_scores
        ]
        return dict(
            assignment_entropy=torch.stack(entropies).mean(), center_norm=self.center.norm()
        )


class SlotLoss(nn.Module):
    """A slot should be recognized in the other view, among the slots of all images and processes.

    Only active slots are pooled, predicted and exchanged; the host waits for the device once, for
    their number.

    Args:
        temperature: τ_c of the contrast.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, student: list[Grouping], teacher: list[Grouping], predictor: nn.Module
    ) -> Tensor:
        """Contrast student slots with teacher slots.

        Args:
            student, teacher: the two views, grouped; the teacher's without gradient.
            predictor: h, from (q, d) to (q, d).

        Returns:
            (2,): a loss per direction; 0 where no slot is active in both views.
        """
        num_prototypes = student[0].scores.shape[1]
        student_active = [view.active for view in student]
        teacher_active = [view.active for view in teacher]
        teacher_active_bk = [slot_mask(active, num_prototypes) for active in teacher_active]

        # Queries are active in the student's view and in the teacher's other view,
        # keys are all that are active in the teacher's view.
        is_query = [
            student_active[s].valid & teacher_active_bk[t].gather(1, student_active[s].index)
            for s, t in DIRECTIONS
        ]
        is_key = [teacher_active[t].valid for _, t in DIRECTIONS]
        # Of each process: queries and keys of both directions, and the most queries of an image.
        most = [mask.sum(dim=1).max() for mask in is_query]
        totals = [mask.sum() for mask in (*is_query, *is_key)]
        counts = share_counts(torch.stack([*totals, *most]))
        keys = _gather_keys(teacher, teacher_active, counts)

        per_direction = []
        for direction, (s, t) in enumerate(DIRECTIONS):
            queries_per_rank = [count[direction] for count in counts]
            if not _enough_rows(predictor, queries_per_rank):
                per_direction.append(_zero_for(predictor, student[s].scores))
                continue
            most = counts[rank()][4 + direction]
            index_bm, mask_bm = _queries_first(student_active[s].index, is_query[direction], most)
            rows = _true_positions(mask_bm, queries_per_rank[rank()])
            slots_qd = _pool(student[s], index_bm).flatten(0, 1)[rows]
            device = slots_qd.device.type
            # Synchronized batch norm sends an empty process's zeros in the input's precision, the
            # others' statistics in float32: the two must agree.
            mixed = len(rows) > 0 and torch.is_autocast_enabled(device)
            with torch.autocast(device, enabled=mixed):
                predictions_qd = predictor(slots_qd)
            first_row = sum(count[2 + direction] for count in counts[: rank()])
            key_row_bk = _key_rows(teacher_active[t], num_prototypes)
            key_row_bm = key_row_bk.gather(1, index_bm)
            target_q = first_row + key_row_bm.flatten()[rows]
            per_direction.append(
                losses.slot_loss(predictions_qd, keys[direction], target_q, self.temperature)
            )
        return torch.stack(per_direction)


def _pool(view: Grouping, index_bm: Tensor) -> Tensor:
    return pool_slots(view.features, view.scores, index_bm, view.temperature)


@torch.no_grad()
def _gather_keys(
    teacher: list[Grouping], active: list[ActiveSlots], counts: list[list[int]]
) -> list[Tensor]:
    """The teacher's active slots of all processes, (n, d) per direction, in one exchange."""
    own = []
    for direction, (_, t) in enumerate(DIRECTIONS):
        rows = _true_positions(active[t].valid, counts[rank()][2 + direction])
        own.append(_pool(teacher[t], active[t].index).flatten(0, 1)[rows])
    everyone = gather_rows(torch.cat(own), [sum(count[2:4]) for count in counts])
    # Rank 0's two directions, rank 1's two, and so on.
    blocks = everyone.split([rows for count in counts for rows in count[2:4]])
    return [torch.cat(blocks[direction :: len(DIRECTIONS)]) for direction in range(len(DIRECTIONS))]


def _queries_first(index_bm: Tensor, is_query_bm: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Each image's slots in order with its queries first, as many as the image with most has:
    index and mask, (b, most) each.
    """
    order_bm = is_query_bm.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
    first_bm = order_bm[:, :most]
    return index_bm.gather(1, first_bm), is_query_bm.gather(1, first_bm)


def _true_positions(mask_bm: Tensor, count: int) -> Tensor:
    """Flat positions of a mask's true entries, whose number the host knows: (count,) int64."""
    return torch.nonzero_static(mask_bm.flatten(), size=count)[:, 0]


def _key_rows(active: ActiveSlots, num_prototypes: int) -> Tensor:
    """Each slot's row among this process's keys: (b, k) int64, meaningless where not active."""
    row_bm = active.valid.flatten().cumsum(0).view_as(active.index) - 1  # repeats share a row
    row_bk = row_bm.new_zeros((len(row_bm), num_prototypes))
    return row_bk.scatter_(1, active.index, row_bm)


def _enough_rows(predictor: nn.Module, rows_per_rank: list[int]) -> bool:
    """Whether the predictor's batch norms get a batch: two rows here, or anywhere if synchronized.

    A process without queries still takes part in synchronized batch norm, with zero rows; all
    processes decide alike.
    """
    norms = [m for m in predictor.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    needed = 2 if any(norm.training for norm in norms) else 1
    synchronized = any(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    return (sum(rows_per_rank) if synchronized else rows_per_rank[rank()]) >= needed


def _zero_for(predictor: nn.Module, like: Tensor) -> Tensor:
    """A loss of 0 that gives the predictor's parameters gradients of 0: other processes wait."""
    return sum((p.sum() * 0 for p in predictor.parameters()), like.new_zeros(()))
