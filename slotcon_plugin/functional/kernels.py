"""Fast versions of plain functions, with gradients written by hand but no second gradients.

Each names the plain function that it equals; `tests/test_kernels.py` compares the two. Maps (b, k,
h, w) are read pixel by pixel, as (b, p, k) with p = h · w, and a few images at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .checks import check_shapes, has_values

# Bytes of one map in a chunk of images. A few chunks of this size fit into a CPU's cache; a GPU is
# fast with large tensors only.
CPU_CHUNK = 2 * 2**20
DEVICE_CHUNK = 128 * 2**20


def pixel_rows(maps_bkhw: Tensor) -> Tensor:
    """Maps (b, k, h, w) with one row per pixel, (b, h · w, k): a view wherever that is possible."""
    return maps_bkhw.flatten(2).transpose(1, 2)


def image_chunks(maps: Tensor) -> list[slice]:
    """Slices that split a batch of maps (b, ...) into chunks of at least one image."""
    limit = CPU_CHUNK if maps.device.type == "cpu" else DEVICE_CHUNK
    step = max(limit // max(maps[:1].numel() * maps.element_size(), 1), 1)
    return [slice(start, start + step) for start in range(0, len(maps), step)]


def log_normalizer(logits: Tensor, softmax: Tensor) -> Tensor:
    """`logits.logsumexp(dim=-1)` of logits whose softmax is known: from the largest of each."""
    return logits.amax(dim=-1) - softmax.amax(dim=-1).log_()


def winners(scores_bkhw: Tensor) -> Tensor:
    """`scores.argmax(dim=1).flatten(1)`: (b, p) int64, the first where several are equal."""
    scores_bpk = pixel_rows(scores_bkhw.detach())
    if scores_bpk.device.type == "cpu" and has_values(scores_bpk):
        # numpy takes a fifth of torch's time
        return torch.from_numpy(scores_bpk.numpy().argmax(axis=2))
    return scores_bpk.argmax(dim=2)


class UnitLength(Function):
    """`F.normalize(vectors, dim=-1)` of vectors (..., d)."""

    @staticmethod
    def forward(ctx, vectors):
        vectors = vectors.contiguous()
        inverse = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        inverse = inverse.clamp_(min=1e-12).reciprocal_()
        directions = vectors * inverse
        ctx.save_for_backward(directions, inverse)
        return directions

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        # The part of the upstream gradient that is orthogonal to the direction, over the length.
        directions, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(upstream, directions).unsqueeze(-1)
        return torch.addcmul(upstream, directions, along, value=-1).mul_(inverse)


class ChosenLogAttention(Function):
    """`(scores / temperature).log_softmax(dim=1)` of chosen prototypes only: (b, p, m).

    Only the scores, which exist anyway, are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx, scores_bkhw, index_bm, temperature):
        scores_bpk = pixel_rows(scores_bkhw)
        normalizer_bp1 = scores_bpk.new_empty((*scores_bpk.shape[:2], 1))
        for chunk in image_chunks(scores_bpk):
            largest = scores_bpk[chunk].amax(dim=2, keepdim=True).div_(temperature)
            odds = torch.add(-largest, scores_bpk[chunk], alpha=1 / temperature).exp_()
            normalizer_bp1[chunk] = odds.sum(dim=2, keepdim=True).log_().add_(largest)
        chosen_bpm = scores_bpk.gather(2, _at_every_pixel(index_bm, scores_bpk))
        ctx.save_for_backward(scores_bkhw, index_bm, normalizer_bp1)
        ctx.temperature = temperature
        return chosen_bpm.div_(temperature).sub_(normalizer_bp1)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream_bpm):
        scores_bkhw, index_bm, normalizer_bp1 = ctx.saved_tensors
        scores_bpk = pixel_rows(scores_bkhw)
        gradient_bkhw, gradient_bpk = _empty_maps(scores_bkhw)
        scale = 1 / ctx.temperature
        for chunk in image_chunks(scores_bpk):
            upstream, part = upstream_bpm[chunk] * scale, gradient_bpk[chunk]
            torch.add(-normalizer_bp1[chunk], scores_bpk[chunk], alpha=scale, out=part)
            part.exp_().mul_(-upstream.sum(dim=2, keepdim=True))
            part.scatter_add_(2, _at_every_pixel(index_bm[chunk], part), upstream)
        return gradient_bkhw, None, None


class AlignedCrossEntropy(Function):
    """Cross-entropy of resampled logits against the softmax of resampled, centered targets.

    With `R(maps)` for `resample` with a view's alignment:
    `-((R(teacher) - center).softmax(k) * R(student).log_softmax(k)).sum(k).mean()`. Only the
    student gets a gradient, `Rᵀ(softmax(R(student)) - target) / (b · p)`. It is computed in the
    forward pass, and is all that is kept.
    """

    @staticmethod
    def forward(ctx, student_bkhw, teacher_bkhw, student_alignment, teacher_alignment, center_1k):
        student_bpk, teacher_bpk = pixel_rows(student_bkhw), pixel_rows(teacher_bkhw)
        trained = ctx.needs_input_grad[0]
        gradient_bkhw, gradient_bpk = _empty_maps(student_bkhw) if trained else (None, None)
        ctx.pixels = student_bpk.shape[0] * student_bpk.shape[1]
        total = student_bpk.new_zeros(())
        for chunk in image_chunks(student_bpk):
            student_mix, teacher_mix = (
                [part[chunk] for part in alignment]
                for alignment in (student_alignment, teacher_alignment)
            )
            target = resample(teacher_bpk[chunk], *teacher_mix).sub_(center_1k).softmax(dim=2)
            logits = resample(student_bpk[chunk], *student_mix)
            assignment = logits.softmax(dim=2)
            # -Σ t log a = log Σ exp(l) - Σ t l
            total += log_normalizer(logits, assignment).sum()
            total -= torch.dot(target.flatten(), logits.flatten())
            if trained:
                gradient_bpk[chunk] = resample_backward(assignment.sub_(target), *student_mix)
        ctx.save_for_backward(gradient_bkhw)
        return total / ctx.pixels

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        (gradient_bkhw,) = ctx.saved_tensors
        return gradient_bkhw * (upstream / ctx.pixels), None, None, None, None


def resample(maps_bpk: Tensor, index_bp4: Tensor, weight_bp4: Tensor) -> Tensor:
    """`(maps[index] * weight[..., None]).sum(dim=1)` of each image: four pixels mixed into one.

    Maps and result are (b, p, k); index and weight, of the maps' precision, are an `Alignment`'s.
    """
    check_shapes(maps_bpk=maps_bpk, index_bp4=index_bp4, weight_bp4=weight_bp4)
    source_n4 = _index_in_batch(index_bp4).flatten(0, 1)
    weight_n4 = weight_bp4.flatten(0, 1)
    maps_nk = maps_bpk.flatten(0, 1)
    mixed_nk = F.embedding_bag(source_n4, maps_nk, per_sample_weights=weight_n4, mode="sum")
    return mixed_nk.view(maps_bpk.shape)


def resample_backward(gradient_bpk: Tensor, index_bp4: Tensor, weight_bp4: Tensor) -> Tensor:
    """The gradient (b, p, k) of `resample`'s maps, from the gradient (b, p, k) of its result."""
    check_shapes(gradient_bpk=gradient_bpk, index_bp4=index_bp4, weight_bp4=weight_bp4)
    source, order = _index_in_batch(index_bp4).flatten().sort(stable=True)
    pixels = torch.arange(index_bp4.shape[:2].numel(), device=source.device)
    spread_nk = F.embedding_bag(
        order // 4,  # resampled pixels, in the order of the pixels that they were mixed from
        gradient_bpk.flatten(0, 1),
        torch.searchsorted(source, pixels),
        per_sample_weights=weight_bp4.flatten()[order],
        mode="sum",
    )
    return spread_nk.view(gradient_bpk.shape)


def _empty_maps(like_bkhw: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (b, k, h, w) to be filled, k innermost in memory, and their `pixel_rows`, a view."""
    maps_bkhw = torch.empty_like(like_bkhw, memory_format=torch.channels_last)
    return maps_bkhw, pixel_rows(maps_bkhw)


def _at_every_pixel(index_bm: Tensor, maps_bpk: Tensor) -> Tensor:
    return index_bm[:, None].expand(-1, maps_bpk.shape[1], -1)


def _index_in_batch(index_bp4: Tensor) -> Tensor:
    """Each image's pixels numbered as pixels of the whole batch."""
    b, p, _ = index_bp4.shape
    return index_bp4 + p * torch.arange(b, device=index_bp4.device)[:, None, None]
