"""SlotCon written plainly, straight from the method: the judge of exactness, the baseline of speed.

Nothing here is clever, nothing is shared with the package, and nothing is slower than writing it
down asks for. Score maps are resampled on all K channels with torchvision's RoIAlign and flipped
image by image; attention and slots are dense, for all K prototypes of every image; active
slots are Python sets; parameters are updated tensor by tensor.

Several processes are played by one: `losses` takes a list with one entry per process. A process has
queries, a mean and a predictor's batch of its own; keys and the center are everyone's.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

DIRECTIONS = ((0, 1), (1, 0))  # (the student's view, the teacher's view)


class Settings(NamedTuple):
    """The method's constants."""

    student_temperature: float = 0.1
    teacher_temperature: float = 0.07  # of the grouping target, and of all attention
    slot_temperature: float = 0.2
    center_momentum: float = 0.9
    group_weight: float = 0.5


class Projected(NamedTuple):
    """What one process holds after encoder and projector, before the prototypes."""

    student: list[Tensor]  # two views, (b, d, h, w) each, with gradient
    teacher: list[Tensor]  # two views, (b, d, h, w) each
    boxes: Tensor  # (2, b, 4) x1, y1, x2, y2 of the common region, fractions of a view, 0-1
    flips: Tensor  # (2, b) bool


class Losses(NamedTuple):
    """The losses of one process."""

    group: Tensor  # (2,) one per direction
    slot: Tensor  # (2,) one per direction
    total: Tensor  # scalar, weighted
    queries: list[int]  # number of queries per direction


def project(student: Callable, teacher: Callable, views: list[Tensor], boxes, flips) -> Projected:
    """Run every view through student and teacher, each view on its own.

    Args:
        student, teacher: encoder and projector, from (b, 3, h, w) to (b, d, h, w).
        views: two tensors (b, 3, h, w).
        boxes, flips: see `Projected`.
    """
    student_pixels = [student(view) for view in views]
    with torch.no_grad():
        teacher_pixels = [teacher(view) for view in views]
    return Projected(student_pixels, teacher_pixels, boxes, flips)


def score_maps(pixels: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every pixel (b, d, h, w) with every prototype (k, d): (b, k, h, w)."""
    pixels = pixels / pixels.norm(dim=1, keepdim=True)
    prototypes = prototypes / prototypes.norm(dim=1, keepdim=True)
    return torch.einsum("kd,bdhw->bkhw", prototypes, pixels)


def all_slots(pixels: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Slots of all prototypes of every image, by dense attention: (b, k, d)."""
    attention = torch.softmax(scores / temperature, dim=1) + 1e-6
    attention = attention / attention.sum(dim=(2, 3), keepdim=True)
    return torch.einsum("bkhw,bdhw->bkd", attention, pixels)


def inverse_augmentation(maps: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Resample each image's common region to the whole grid, and flip it back.

    Args:
        maps: (b, k, h, w).
        boxes: (b, 4) fractions of the view.
        flips: (b,) bool.
    """
    height, width = maps.shape[2:]
    if maps.dtype == torch.float16:  # too coarse for boxes, and for the numbers of images
        maps = maps.float()
    scale = maps.new_tensor([width, height, width, height])
    boxes = (boxes.to(maps.dtype) * scale).split(1)  # an image's list of one box
    aligned = roi_align(maps, boxes, (height, width), aligned=True)
    return torch.stack(
        [m.flip(2) if flipped else m for m, flipped in zip(aligned, flips.tolist(), strict=True)]
    )


def active_sets(scores: Tensor) -> list[set[int]]:
    """For each image the prototypes that win a pixel of its score map (b, k, h, w)."""
    return [set(winners) for winners in scores.argmax(dim=1).flatten(1).tolist()]


def grouping_loss(student: Tensor, teacher: Tensor, center: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of two aligned score maps (b, k, h, w); the center is (1, k)."""
    centered = teacher - center[:, :, None, None]
    target = torch.softmax(centered / settings.teacher_temperature, dim=1)
    log_assignment = torch.log_softmax(student / settings.student_temperature, dim=1)
    return -(target * log_assignment).sum(dim=1).mean()


def losses(
    processes: list[Projected],
    student_prototypes: Tensor,
    teacher_prototypes: Tensor,
    predictor: nn.Module,
    center: Tensor,
    settings: Settings = Settings(),  # noqa: B008 (a NamedTuple does not change)
) -> tuple[list[Losses], Tensor]:
    """The losses of every process, and the center (1, k) after the step.

    A batch norm has no statistics of one row: with a training predictor, a direction with fewer
    than two queries on a process has the slot loss 0 there.
    """
    student_scores = [[score_maps(v, student_prototypes) for v in p.student] for p in processes]
    teacher_scores = [[score_maps(v, teacher_prototypes) for v in p.teacher] for p in processes]
    group = [
        _grouping_losses(process, *scores, center, settings)
        for process, *scores in zip(processes, student_scores, teacher_scores, strict=True)
    ]
    slot, queries = _slot_losses(processes, student_scores, teacher_scores, predictor, settings)
    weight = settings.group_weight
    results = [
        Losses(g, s, weight * g.sum() + (1 - weight) * s.sum(), q)
        for g, s, q in zip(group, slot, queries, strict=True)
    ]
    means = [scores.mean(dim=(0, 2, 3)) for views in teacher_scores for scores in views]
    mean = torch.stack(means).mean(dim=0, keepdim=True)
    momentum = settings.center_momentum
    return results, (momentum * center + (1 - momentum) * mean).detach()


def _grouping_losses(process, student_scores, teacher_scores, center, settings) -> Tensor:
    """(2,): the grouping loss of both directions on one process."""
    places = list(zip(process.boxes, process.flips, strict=True))
    student = [inverse_augmentation(m, *p) for m, p in zip(student_scores, places, strict=True)]
    teacher = [inverse_augmentation(m, *p) for m, p in zip(teacher_scores, places, strict=True)]
    return torch.stack(
        [grouping_loss(student[s], teacher[t], center, settings) for s, t in DIRECTIONS]
    )


def _slot_losses(processes, student_scores, teacher_scores, predictor, settings):
    """Per process, the slot loss of both directions (2,) and the numbers of queries."""
    temperature = settings.slot_temperature
    seen = [[active_sets(scores) for scores in views] for views in student_scores]
    known = [[active_sets(scores) for scores in views] for views in teacher_scores]
    results, numbers = [[] for _ in processes], [[] for _ in processes]
    for s, t in DIRECTIONS:
        # The teacher's active slots of every process are the keys; `row_of` finds them again.
        keys, row_of = [], {}
        for r, process in enumerate(processes):
            pooled = all_slots(
                process.teacher[t], teacher_scores[r][t], settings.teacher_temperature
            )
            active = [(i, k) for i, slots in enumerate(known[r][t]) for k in sorted(slots)]
            row_of |= {(r, *slot): len(row_of) + n for n, slot in enumerate(active)}
            keys.append(chosen(pooled, active).detach())
        keys = torch.cat(keys)
        keys = keys / keys.norm(dim=1, keepdim=True)

        for r, process in enumerate(processes):
            both = enumerate(zip(seen[r][s], known[r][t], strict=True))
            queries = [(i, k) for i, (mine, theirs) in both for k in sorted(mine & theirs)]
            numbers[r].append(len(queries))
            if len(queries) < (2 if predictor.training else 1):
                results[r].append(process.student[s].sum() * 0)
                continue
            pooled = all_slots(
                process.student[s], student_scores[r][s], settings.teacher_temperature
            )
            predictions = predictor(chosen(pooled, queries))
            predictions = predictions / predictions.norm(dim=1, keepdim=True)
            target = torch.tensor([row_of[(r, *query)] for query in queries], device=keys.device)
            loss = F.cross_entropy(predictions @ keys.T / temperature, target)
            results[r].append(2 * temperature * loss)
    return [torch.stack(pair) for pair in results], numbers


def chosen(slots: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The slots (b, k, d) of some (image, prototype) pairs: (n, d)."""
    rows = [image * slots.shape[1] + k for image, k in pairs]
    return slots.flatten(0, 1)[rows]


@torch.no_grad()
def move_teacher(teacher: list[Tensor], student: list[Tensor], momentum: float) -> None:
    """`θ_t ← m θ_t + (1 − m) θ_s`, tensor by tensor."""
    for mine, theirs in zip(teacher, student, strict=True):
        mine.mul_(momentum).add_(theirs, alpha=1 - momentum)


@torch.no_grad()
def lars_step(
    params: list[Tensor],
    buffers: list[Tensor],
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-5,
    trust: float = 0.001,
) -> None:
    """One LARS step on parameters with gradients, tensor by tensor; buffers start at zero."""
    for p, buffer in zip(params, buffers, strict=True):
        step = p.grad
        if p.ndim != 1:
            step = p.grad + weight_decay * p
            size, step_size = p.norm(), step.norm()
            adapted = trust * size / step_size
            step = step * torch.where((size > 0) & (step_size > 0), adapted, 1.0)
        buffer.mul_(momentum).add_(step)
        p.sub_(buffer, alpha=lr)
