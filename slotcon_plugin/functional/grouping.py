"""Semantic grouping: which prototype a pixel belongs to, and what a prototype gathers in an image.

Wen et al., NeurIPS 2022 (arXiv 2205.15288), section 3.1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .chunks import empty_maps, image_chunks, pixel_rows
from .precision import full_precision
from .shapes import check_shapes

ATTENTION_FLOOR = 1e-6  # added to every attention weight before it is normalized over the pixels


class ActiveSlots(NamedTuple):
    """The prototypes that win a pixel of an image: at most m = h · w, however large k is."""

    index: Tensor  # (b, m) int64, the winner of each pixel, ascending in each image, with repeats
    valid: Tensor  # (b, m) bool, true at the first occurrence only


class Grouping(NamedTuple):
    """One view, grouped."""

    features: Tensor  # (b, d, h, w) projected pixels, not normalized
    directions: Tensor  # (b, d, h, w) the same pixels with unit length
    scores: Tensor  # (b, k, h, w) cosine of pixel and prototype, in [-1, 1], before any temperature
    temperature: float  # τ of the attention that pools this view's slots
    active: ActiveSlots  # the slots that win a pixel


@full_precision
def unit_directions(features_bdhw: Tensor) -> Tensor:
    """Scale every pixel's feature to length 1. Returns (b, d, h, w), channels innermost in memory:
    as the product with the prototypes wants them.
    """
    check_shapes(features_bdhw=features_bdhw)
    return _UnitLength.apply(features_bdhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@full_precision
def prototype_scores(directions_bdhw: Tensor, prototypes_kd: Tensor) -> Tensor:
    """Scores `<P_k / |P_k|, direction>` of every pixel and prototype.

    Args:
        directions_bdhw: (b, d, h, w) pixels of unit length.
        prototypes_kd: (k, d) prototypes of any length.

    Returns:
        (b, k, h, w) scores: cosines in [-1, 1].
    """
    check_shapes(directions_bdhw=directions_bdhw, prototypes_kd=prototypes_kd)
    rows_bhwd = directions_bdhw.permute(0, 2, 3, 1)
    return (rows_bhwd @ _UnitLength.apply(prototypes_kd).T).permute(0, 3, 1, 2)


class _UnitLength(torch.autograd.Function):
    """Vectors (..., d) of length 1, zeros where there is no direction. The gradient is the
    upstream's part across the direction, over the length.
    """

    @staticmethod
    def forward(ctx, vectors):
        vectors = vectors.contiguous()
        inverse = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        inverse = inverse.clamp_(min=1e-12).reciprocal_()
        directions = vectors * inverse
        ctx.save_for_backward(directions, inverse)
        return directions

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        directions, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(upstream, directions).unsqueeze(-1)
        return torch.addcmul(upstream, directions, along, value=-1).mul_(inverse)


def active_slots(scores_bkhw: Tensor) -> ActiveSlots:
    """Find the prototypes that are the arg-max of at least one pixel of each image.

    All shapes are fixed by the input's, so that nothing waits for the device.
    """
    check_shapes(scores_bkhw=scores_bkhw)
    index_bm = _winners(scores_bkhw).sort(dim=1).values
    valid_bm = torch.ones_like(index_bm, dtype=torch.bool)
    valid_bm[:, 1:] = index_bm[:, 1:] != index_bm[:, :-1]
    return ActiveSlots(index_bm, valid_bm)


@full_precision
def _winners(scores_bkhw: Tensor) -> Tensor:
    """Each pixel's arg-max over the prototypes, the first where several share it: (b, h · w)."""
    scores_bpk = pixel_rows(scores_bkhw.detach())
    if scores_bpk.device.type == "cpu":  # numpy's takes a fifth of torch's time
        return torch.from_numpy(scores_bpk.numpy().argmax(axis=2))
    return scores_bpk.argmax(dim=2)


def slot_mask(active: ActiveSlots, num_prototypes: int) -> Tensor:
    """Spread active slots over all prototypes. Returns (b, k) bool."""
    mask_bk = active.index.new_zeros((len(active.index), num_prototypes), dtype=torch.bool)
    return mask_bk.scatter_(1, active.index, True)


@full_precision
def pool_slots(
    features_bdhw: Tensor, scores_bkhw: Tensor, index_bm: Tensor, temperature: float
) -> Tensor:
    """Pool the chosen slots of each image by attention.

    Attention is a softmax over *prototypes* at each pixel, `exp(s / τ - logsumexp_k(s / τ)) +
    1e-6`, normalized over the pixels. It is formed for the chosen pairs alone, m of k (METHOD fact
    c); the floor keeps a slot defined that wins nothing.

    Args:
        features_bdhw: (b, d, h, w) projected pixels, not normalized.
        scores_bkhw: (b, k, h, w) cosine scores of the same pixels.
        index_bm: (b, m) int64, the prototypes to pool in each image, in [0, k).
        temperature: τ, positive.

    Returns:
        (b, m, d) slots: weighted means of the pixels.
    """
    check_shapes(features_bdhw=features_bdhw, scores_bkhw=scores_bkhw, index_bm=index_bm)
    log_attention_bpm = _ChosenLogAttention.apply(scores_bkhw, index_bm, temperature)
    attention_bpm = log_attention_bpm.exp() + ATTENTION_FLOOR
    attention_bpm = attention_bpm / attention_bpm.sum(dim=1, keepdim=True)
    return torch.einsum("bpm,bdp->bmd", attention_bpm, features_bdhw.flatten(2))


class _ChosenLogAttention(torch.autograd.Function):
    """`s / τ - logsumexp_k(s / τ)` of scores (b, k, h, w) for chosen prototypes (b, m): (b, p, m).

    For the backward pass only the scores are kept, which live anyway; the softmax over all k is
    there for a few images at a time.
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
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream_bpm):
        scores_bkhw, index_bm, normalizer_bp1 = ctx.saved_tensors
        scores_bpk = pixel_rows(scores_bkhw)
        gradient_bkhw, gradient_bpk = empty_maps(scores_bkhw)
        scale = 1 / ctx.temperature
        for chunk in image_chunks(scores_bpk):
            upstream, part = upstream_bpm[chunk] * scale, gradient_bpk[chunk]
            torch.add(-normalizer_bp1[chunk], scores_bpk[chunk], alpha=scale, out=part)
            part.exp_().mul_(-upstream.sum(dim=2, keepdim=True))
            part.scatter_add_(2, _at_every_pixel(index_bm[chunk], part), upstream)
        return gradient_bkhw, None, None


def _at_every_pixel(index_bm: Tensor, maps_bpk: Tensor) -> Tensor:
    return index_bm[:, None].expand(-1, maps_bpk.shape[1], -1)
