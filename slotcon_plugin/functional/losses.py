"""The two losses of SlotCon, each for one direction (Wen et al., NeurIPS 2022, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .alignment import Alignment
from .checks import check_shapes
from .kernels import AlignedCrossEntropy
from .precision import full_precision

DIRECTIONS = ((0, 1), (1, 0))  # (the student's view, the teacher's view)


@full_precision
def grouping_loss(
    student_scores_bkhw: Tensor,
    teacher_scores_bkhw: Tensor,
    student_alignment: Alignment,
    teacher_alignment: Alignment,
    center_1k: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the student's assignment against the teacher's, on the common region.

    The mean over images and pixels of `−Σ_k softmax_k((s_t − c) / τ_t) · log softmax_k(s_s / τ_s)`,
    in nats, for aligned scores of the student's view and of the teacher's other one. c is the
    running mean of the teacher's scores; the temperatures τ are positive; p = h · w.
    """
    check_shapes(
        student_scores_bkhw=student_scores_bkhw,
        teacher_scores_bkhw=teacher_scores_bkhw,
        center_1k=center_1k,
        student_scores_bkp=student_scores_bkhw.flatten(2),
        student_index_bp4=student_alignment.index,
        student_weight_bp4=student_alignment.weight,
        teacher_index_bp4=teacher_alignment.index,
        teacher_weight_bp4=teacher_alignment.weight,
    )
    # Resampling is linear: temperatures divide the four weights of a pixel, not its k scores.
    student_weight_bp4 = student_alignment.weight.detach() / student_temperature
    teacher_weight_bp4 = teacher_alignment.weight.detach() / teacher_temperature
    return AlignedCrossEntropy.apply(
        student_scores_bkhw,
        teacher_scores_bkhw.detach(),
        Alignment(student_alignment.index, student_weight_bp4.to(student_scores_bkhw.dtype)),
        Alignment(teacher_alignment.index, teacher_weight_bp4.to(teacher_scores_bkhw.dtype)),
        center_1k.detach() / teacher_temperature,
    )


@full_precision
def slot_loss(
    predictions_qd: Tensor, keys_nd: Tensor, target_q: Tensor, temperature: float
) -> Tensor:
    """Contrast predicted slots with the teacher's: `2 τ · cross_entropy(cosines / τ)`.

    The mean over the queries, or 0 without queries. `target_q`, int64, is the row of `keys_nd` with
    the same slot of the same image. Slots may have any length; τ is positive.
    """
    check_shapes(predictions_qd=predictions_qd, keys_nd=keys_nd, target_q=target_q)
    cosines_qn = F.normalize(predictions_qd, dim=1) @ F.normalize(keys_nd, dim=1).T
    total = F.cross_entropy(cosines_qn / temperature, target_q, reduction="sum")
    return 2 * temperature * total / max(len(target_q), 1)


def moved_center(center_1k: Tensor, mean_1k: Tensor, momentum: float) -> Tensor:
    """The center (1, k) moved towards a batch's mean scores; momentum 0.9 keeps 90 %."""
    check_shapes(center_1k=center_1k, mean_1k=mean_1k)
    return torch.lerp(mean_1k.to(center_1k.dtype), center_1k, momentum)
