"""The two losses of SlotCon, each for one direction (Wen et al., NeurIPS 2022, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .alignment import Alignment, resample, resample_back
from .chunks import empty_maps, image_chunks, pixel_rows
from .precision import full_precision
from .shapes import check_shapes


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
    """Cross-entropy between the teacher's centered, sharpened assignment and the student's, where
    the two views show the same place.

    Args:
        student_scores_bkhw: (b, k, h, w) scores of the student's view.
        teacher_scores_bkhw: (b, k, h, w) scores of the teacher's other view; a target, to which no
            gradient goes.
        student_alignment, teacher_alignment: the two views', with p = h · w.
        center_1k: (1, k) running mean of the teacher's scores.
        student_temperature, teacher_temperature: positive; the teacher's is the lower one.

    Returns:
        Scalar: mean over images and pixels, in nats, at least 0.
    """
    check_shapes(
        student_scores_bkhw=student_scores_bkhw,
        teacher_scores_bkhw=teacher_scores_bkhw,
        center_1k=center_1k,
    )
    check_shapes(
        student_scores_bkp=student_scores_bkhw.flatten(2),
        student_index_bp4=student_alignment.index,
        student_weight_bp4=student_alignment.weight,
        teacher_index_bp4=teacher_alignment.index,
        teacher_weight_bp4=teacher_alignment.weight,
    )
    student_weight_bp4 = student_alignment.weight.detach() / student_temperature
    teacher_weight_bp4 = teacher_alignment.weight.detach() / teacher_temperature
    return _GroupingLoss.apply(
        student_scores_bkhw,
        teacher_scores_bkhw.detach(),
        Alignment(student_alignment.index, student_weight_bp4.to(student_scores_bkhw.dtype)),
        Alignment(teacher_alignment.index, teacher_weight_bp4.to(teacher_scores_bkhw.dtype)),
        center_1k.detach() / teacher_temperature,
    )


class _GroupingLoss(torch.autograd.Function):
    """The loss, of alignments A that give logits and of a center among logits. The gradient is
    known as soon as both assignments are: `A_sᵀ (a_s - a_t) / (b · p)`. Without the divisor it is
    all that is kept for the backward pass, one map of the scores' size; the aligned maps and what
    is made of them are there for a few images at a time.
    """

    @staticmethod
    def forward(ctx, student_bkhw, teacher_bkhw, student_alignment, teacher_alignment, center_1k):
        student_bpk, teacher_bpk = pixel_rows(student_bkhw), pixel_rows(teacher_bkhw)
        trained = ctx.needs_input_grad[0]
        gradient_bkhw, gradient_bpk = empty_maps(student_bkhw) if trained else (None, None)
        ctx.pixels = student_bpk.shape[0] * student_bpk.shape[1]
        total = student_bpk.new_zeros(())
        for chunk in image_chunks(student_bpk):
            student_places, teacher_places = (
                [part[chunk] for part in alignment]
                for alignment in (student_alignment, teacher_alignment)
            )
            target = resample(teacher_bpk[chunk], *teacher_places).sub_(center_1k).softmax(dim=2)
            logits = resample(student_bpk[chunk], *student_places)
            assignment = logits.softmax(dim=2)
            # -Σ t log a = log Σ exp(l) - Σ t l; the largest pair of l and a tells the first log.
            total += (logits.amax(dim=2) - assignment.amax(dim=2).log_()).sum()
            total -= torch.dot(target.flatten(), logits.flatten())
            if trained:
                gradient_bpk[chunk] = resample_back(assignment.sub_(target), *student_places)
        ctx.save_for_backward(gradient_bkhw)
        return total / ctx.pixels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        (gradient_bkhw,) = ctx.saved_tensors
        return gradient_bkhw * (upstream / ctx.pixels), None, None, None, None


@full_precision
def slot_loss(
    predictions_qd: Tensor, keys_nd: Tensor, target_q: Tensor, temperature: float
) -> Tensor:
    """Contrast each predicted slot with the teacher's slots of all images: `2 τ ·
    cross_entropy(cosines / τ)`.

    Args:
        predictions_qd: (q, d) predicted slots of the student, of any length.
        keys_nd: (n, d) teacher slots, of any length.
        target_q: (q,) int64, the row of `keys_nd` that holds the same slot of the same image.
        temperature: τ, positive.

    Returns:
        Scalar: mean over the queries, at least 0; 0 without queries.
    """
    check_shapes(predictions_qd=predictions_qd, keys_nd=keys_nd, target_q=target_q)
    cosines_qn = F.normalize(predictions_qd, dim=1) @ F.normalize(keys_nd, dim=1).T
    total = F.cross_entropy(cosines_qn / temperature, target_q, reduction="sum")
    return 2 * temperature * total / max(len(target_q), 1)


def moved_center(center_1k: Tensor, mean_1k: Tensor, momentum: float) -> Tensor:
    """Move the center towards a batch's mean scores; momentum 0.9 keeps 90 %. Returns (1, k)."""
    check_shapes(center_1k=center_1k, mean_1k=mean_1k)
    return torch.lerp(mean_1k.to(center_1k.dtype), center_1k, momentum)
