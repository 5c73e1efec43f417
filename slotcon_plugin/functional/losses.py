"""The two losses of SlotCon, each for one direction (Wen et al., NeurIPS 2022, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import picture_chunks
from .precision import full_precision
from .shapes import check_shapes


@full_precision
def grouping_loss(
    student_scores_bkhw: Tensor,
    teacher_scores_bkhw: Tensor,
    center_1k: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy between the teacher's centred, sharpened assignment and the student's.

    Args:
        student_scores_bkhw: (b, k, h, w) aligned scores of the student's view.
        teacher_scores_bkhw: (b, k, h, w) aligned scores of the teacher's other view; no gradient is
            expected here.
        center_1k: (1, k) running mean of the teacher's scores.
        student_temperature, teacher_temperature: positive; the teacher's is the lower one.

    Returns:
        Scalar: mean over pictures and pixels, in nats, at least 0.
    """
    check_shapes(
        student_scores_bkhw=student_scores_bkhw,
        teacher_scores_bkhw=teacher_scores_bkhw,
        center_1k=center_1k,
    )
    return _GroupingLoss.apply(
        student_scores_bkhw.flatten(2).transpose(1, 2),
        teacher_scores_bkhw.flatten(2).transpose(1, 2),
        center_1k,
        student_temperature,
        teacher_temperature,
    )


class _GroupingLoss(torch.autograd.Function):
    """The loss of scores (b, p, k), whose gradient is known as soon as both assignments are: `(a_s
    - a_t) / (b · p · τ_s)`. Without the divisor it is all that is kept for the backward pass,
    one map of the scores' size, and what lies between is there for a few pictures at a time.
    """

    @staticmethod
    def forward(ctx, student_bpk, teacher_bpk, center_1k, student_temperature, teacher_temperature):
        total = student_bpk.new_zeros(())
        gradient_bpk = torch.empty_like(student_bpk) if ctx.needs_input_grad[0] else None
        pixels = student_bpk.shape[0] * student_bpk.shape[1]
        for chunk in picture_chunks(student_bpk):
            target = (teacher_bpk[chunk] - center_1k).div_(teacher_temperature).softmax(dim=2)
            logits = student_bpk[chunk] / student_temperature
            assignment = logits.softmax(dim=2)
            # -Σ t log a = log Σ exp(l) - Σ t l; the largest pair of l and a tells the first log.
            total += (logits.amax(dim=2) - assignment.amax(dim=2).log_()).sum()
            total -= torch.dot(target.flatten(), logits.flatten())
            if gradient_bpk is not None:
                torch.sub(assignment, target, out=gradient_bpk[chunk])
        ctx.save_for_backward(gradient_bpk)
        ctx.divisor = pixels * student_temperature
        return total / pixels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        (gradient_bpk,) = ctx.saved_tensors
        return gradient_bpk * (upstream / ctx.divisor), None, None, None, None


@full_precision
def slot_loss(
    predictions_qd: Tensor, keys_nd: Tensor, target_q: Tensor, temperature: float
) -> Tensor:
    """Contrast each predicted slot with the teacher's slots of all pictures: `2 τ ·
    cross_entropy(cosines / τ)`.

    Args:
        predictions_qd: (q, d) predicted slots of the student, of any length.
        keys_nd: (n, d) teacher slots, of any length.
        target_q: (q,) int64, the row of `keys_nd` that holds the same slot of the same picture.
        temperature: τ, positive.

    Returns:
        Scalar: mean over the queries, at least 0; 0 without queries.
    """
    check_shapes(predictions_qd=predictions_qd, keys_nd=keys_nd, target_q=target_q)
    cosines_qn = F.normalize(predictions_qd, dim=1) @ F.normalize(keys_nd, dim=1).T
    total = F.cross_entropy(cosines_qn / temperature, target_q, reduction="sum")
    return 2 * temperature * total / max(len(target_q), 1)


def moved_center(center_1k: Tensor, mean_1k: Tensor, momentum: float) -> Tensor:
    """Move the centre towards a batch's mean scores; momentum 0.9 keeps 90 %. Returns (1, k)."""
    check_shapes(center_1k=center_1k, mean_1k=mean_1k)
    return torch.lerp(mean_1k.to(center_1k.dtype), center_1k, momentum)
