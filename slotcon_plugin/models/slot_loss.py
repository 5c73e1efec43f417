"""The slot loss as a module: select, exchange, contrast."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..functional.checks import check_numbers, has_values
from ..functional.collectives import gather_rows, rank, share_counts
from ..functional.grouping import ActiveSlots, Grouping, slot_mask
from ..functional.losses import DIRECTIONS, slot_loss


class Counts(NamedTuple):
    """Numbers of slots of one process in one direction."""

    queries: int
    keys: int
    most_queries: int  # of the image that has most of them


class SlotLoss(nn.Module):
    """A slot is to be recognized in the other view, among the slots of all images and processes.

    Only active slots enter the loss (section 3.2 of the paper), so only these are pooled, predicted
    and exchanged. The host waits for the device once, for their numbers. The contrast has the
    temperature τ_c, positive.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        check_numbers("(0, inf)", temperature=temperature)
        self.temperature = temperature

    def forward(
        self, student: list[Grouping], teacher: list[Grouping], predictor: nn.Module
    ) -> Tensor:
        """The loss of each direction, (2,), from the two views; 0 where no slot is active in both.

        `predictor` is h, from (q, d) to (q, d).
        """
        pairs = [(student[s], teacher[t]) for s, t in DIRECTIONS]
        queries = [_select_queries(*pair) for pair in pairs]
        counts = _exchange_counts(queries, [view for _, view in pairs])
        keys = _exchange_keys([view for _, view in pairs], counts)
        losses = [
            self._contrast(*pair, *rest, predictor)
            for pair, *rest in zip(pairs, queries, counts, keys, strict=True)
        ]
        return torch.stack(losses)

    def _contrast(
        self,
        student: Grouping,
        teacher: Grouping,
        is_query_bm: Tensor,
        counts: list[Counts],
        keys_nd: Tensor,
        predictor: nn.Module,
    ) -> Tensor:
        """The loss of one direction; `counts` of each process."""
        own = counts[rank()]
        if not _enough_rows(predictor, [count.queries for count in counts]):
            # Other processes wait for the predictor's gradients: zeros.
            return sum((p.sum() * 0 for p in predictor.parameters()), student.scores.new_zeros(()))
        index_bm, mask_bm = _queries_first(student.active.index, is_query_bm, own.most_queries)
        rows_q = _true_positions(mask_bm, own.queries)
        predictions_qd = _predict(predictor, student.pool(index_bm).flatten(0, 1)[rows_q])
        first_key = sum(count.keys for count in counts[: rank()])
        key_row_bk = _key_rows(teacher.active, teacher.scores.shape[1])
        target_q = first_key + key_row_bk.gather(1, index_bm).flatten()[rows_q]
        return slot_loss(predictions_qd, keys_nd, target_q, self.temperature)


def _select_queries(student: Grouping, teacher: Grouping) -> Tensor:
    """Which of the student's active slots the teacher's other view has too: (b, m) bool."""
    teacher_bk = slot_mask(teacher.active, teacher.scores.shape[1])
    return student.active.valid & teacher_bk.gather(1, student.active.index)


def _exchange_counts(queries: list[Tensor], teacher: list[Grouping]) -> list[list[Counts]]:
    """For each direction, the counts of each process. The one wait for the device in a step.

    Without values, of masks that only have a shape, every candidate counts.
    """
    if not has_values(queries[0]):
        pairs = zip(queries, teacher, strict=True)
        return [
            [Counts(mask_bm.numel(), view.active.valid.numel(), mask_bm.shape[1])]
            for mask_bm, view in pairs
        ]
    totals = [mask.sum() for mask in (*queries, *(view.active.valid for view in teacher))]
    most = [mask.sum(dim=1).max() for mask in queries]
    rows = share_counts(torch.stack([*totals, *most]))
    return [[Counts(*row[direction::2]) for row in rows] for direction in (0, 1)]


@torch.no_grad()
def _exchange_keys(teacher: list[Grouping], counts: list[list[Counts]]) -> list[Tensor]:
    """The teacher's active slots of all processes, (n, d) per direction, in one exchange."""
    own = []
    for view, of_processes in zip(teacher, counts, strict=True):
        rows = _true_positions(view.active.valid, of_processes[rank()].keys)
        own.append(view.pool(view.active.index).flatten(0, 1)[rows])
    sizes = [[count.keys for count in directions] for directions in zip(*counts, strict=True)]
    everyone = gather_rows(torch.cat(own), list(map(sum, sizes)))
    # Rank 0's two directions, rank 1's two directions, and so on.
    blocks = everyone.split([keys for directions in sizes for keys in directions])
    return [torch.cat(blocks[direction::2]) for direction in (0, 1)]


def _queries_first(index_bm: Tensor, is_query_bm: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The first `most` slots of each image, in order but queries first: index, mask (b, most)."""
    order_bm = is_query_bm.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
    first_bm = order_bm[:, :most]
    return index_bm.gather(1, first_bm), is_query_bm.gather(1, first_bm)


def _true_positions(mask_bm: Tensor, count: int) -> Tensor:
    """Flat positions of a mask's true entries, whose number is known: (count,) int64."""
    return torch.nonzero_static(mask_bm.flatten(), size=count)[:, 0]


def _key_rows(active: ActiveSlots, num_prototypes: int) -> Tensor:
    """Each slot's row among this process's keys: (b, k) int64, meaningless where not active."""
    row_bm = active.valid.flatten().cumsum(0).view_as(active.index) - 1  # repeats share a row
    row_bk = row_bm.new_zeros((len(row_bm), num_prototypes))
    return row_bk.scatter_(1, active.index, row_bm)


def _predict(predictor: nn.Module, slots_qd: Tensor) -> Tensor:
    """Predictions (q, d), in mixed precision if training is, but of an empty batch in float32.

    Synchronized batch norm sends statistics in float32, but an empty process's in its precision.
    """
    device = slots_qd.device.type
    mixed = len(slots_qd) > 0 and torch.is_autocast_enabled(device)
    with torch.autocast(device, enabled=mixed):
        return predictor(slots_qd)


def _enough_rows(predictor: nn.Module, rows_per_rank: list[int]) -> bool:
    """Whether the predictor's batch norms get two rows, on all processes if synchronized."""
    norms = [m for m in predictor.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    needed = 2 if any(norm.training for norm in norms) else 1
    synchronized = any(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    return (sum(rows_per_rank) if synchronized else rows_per_rank[rank()]) >= needed
