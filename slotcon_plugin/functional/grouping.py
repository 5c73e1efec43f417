"""Semantic grouping into slots (Wen et al., NeurIPS 2022, arXiv 2205.15288, section 3.1)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .checks import check_shapes
from .kernels import ChosenLogAttention, UnitLength, image_chunks, winners
from .precision import full_precision

MIN_ATTENTION = 1e-6  # added to every attention weight before it is normalized over the pixels


class ActiveSlots(NamedTuple):
    """The prototypes that win a pixel of an image: m candidates, at most h · w and at most k."""

    index: Tensor  # (b, m) int64, ascending in each image: the winner of each pixel, or all k
    valid: Tensor  # (b, m) bool, true at the first occurrence of a prototype that wins a pixel


class Grouping(NamedTuple):
    """One view, grouped."""

    features: Tensor  # (b, d, h, w) projected pixels, not normalized
    directions: Tensor  # (b, d, h, w) the same pixels with unit length
    scores: Tensor  # (b, k, h, w) cosine of pixel and prototype, in [-1, 1], before any temperature
    temperature: float  # τ of the attention that pools this view's slots
    active: ActiveSlots  # the slots that win a pixel

    def pool(self, index_bm: Tensor) -> Tensor:
        """The chosen slots of each image, see `pool_slots`: (b, m, d)."""
        return pool_slots(self.features, self.scores, index_bm, self.temperature)


@full_precision
def unit_directions(features_bdhw: Tensor) -> Tensor:
    """Scale every pixel's feature to length 1; a zero feature stays zero.

    The result (b, d, h, w) has channels innermost in memory, for the product with the prototypes.
    """
    check_shapes(features_bdhw=features_bdhw)
    return UnitLength.apply(features_bdhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@full_precision
def prototype_scores(directions_bdhw: Tensor, prototypes_kd: Tensor) -> Tensor:
    """Cosines (b, k, h, w) of every pixel, of unit length, and prototype, of any length."""
    check_shapes(directions_bdhw=directions_bdhw, prototypes_kd=prototypes_kd)
    rows_bhwd = directions_bdhw.permute(0, 2, 3, 1)
    return (rows_bhwd @ UnitLength.apply(prototypes_kd).T).permute(0, 3, 1, 2)


@full_precision
def active_slots(scores_bkhw: Tensor) -> ActiveSlots:
    """The prototypes that win a pixel of each image. Does not wait for the device."""
    check_shapes(scores_bkhw=scores_bkhw)
    winner_bp, (b, k, *_) = winners(scores_bkhw), scores_bkhw.shape
    if winner_bp.shape[1] > k:
        valid_bk = scores_bkhw.new_zeros((b, k), dtype=torch.bool).scatter_(1, winner_bp, True)
        return ActiveSlots(torch.arange(k, device=winner_bp.device).expand(b, -1), valid_bk)
    index_bm = winner_bp.sort(dim=1).values
    valid_bm = torch.ones_like(index_bm, dtype=torch.bool)
    valid_bm[:, 1:] = index_bm[:, 1:] != index_bm[:, :-1]
    return ActiveSlots(index_bm, valid_bm)


def slot_mask(active: ActiveSlots, num_prototypes: int) -> Tensor:
    """Active slots as a mask of all prototypes, (b, k) bool."""
    index_bm = active.index.where(active.valid, num_prototypes)  # the others: a column more
    mask = index_bm.new_zeros((len(index_bm), num_prototypes + 1), dtype=torch.bool)
    return mask.scatter_(1, index_bm, True)[:, :num_prototypes]


def pool_slots(
    features_bdhw: Tensor, scores_bkhw: Tensor, index_bm: Tensor, temperature: float
) -> Tensor:
    """Pool the slots of chosen prototypes by attention: weighted means of pixels, (b, m, d).

    Attention is a softmax over *prototypes* at each pixel plus `MIN_ATTENTION`, normalized over the
    pixels. The minimum keeps a slot defined whose softmax has underflowed everywhere.

    The features are not normalized; the scores are cosines. `index_bm` are the prototypes to pool
    in each image, int64 in [0, k). The temperature is positive.
    """
    check_shapes(features_bdhw=features_bdhw, scores_bkhw=scores_bkhw, index_bm=index_bm)
    attention_bpm = index_bm[:, None].expand(-1, scores_bkhw.shape[2:].numel(), -1)  # its shape
    chunks = image_chunks(attention_bpm)
    if len(chunks) <= 1:
        return _pool(features_bdhw, scores_bkhw, index_bm, temperature)
    # The attention of very many pixels is computed again in the backward pass, not kept.
    inputs = (part.split(chunks[0].stop) for part in (features_bdhw, scores_bkhw, index_bm))
    few = [checkpoint(_pool, *part, temperature, use_reentrant=False) for part in zip(*inputs)]
    return torch.cat(few)


@full_precision
def _pool(
    features_bdhw: Tensor, scores_bkhw: Tensor, index_bm: Tensor, temperature: float
) -> Tensor:
    log_attention_bpm = ChosenLogAttention.apply(scores_bkhw, index_bm, temperature)
    attention_bpm = log_attention_bpm.exp() + MIN_ATTENTION
    attention_bpm = attention_bpm / attention_bpm.sum(dim=1, keepdim=True)
    return torch.einsum("bpm,bdp->bmd", attention_bpm, features_bdhw.flatten(2))
