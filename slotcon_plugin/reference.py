"""SlotCon's training step in plain torch. Read this file first.

Wen et al., "Self-Supervised Visual Representation Learning with Semantic Grouping", NeurIPS 2022
(arXiv 2205.15288). One step of one process: `move_teacher`, `project`, `losses`, the backward pass,
`lars_step`. Sizes: b images, k prototypes, d channels, h × w pixels, n slots, two views.

The package computes the same numbers faster. It shares no code with this file, so that its tests
can compare the two and its benchmarks can time them side by side.
"""

from collections import namedtuple
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

DIRECTIONS = ((0, 1), (1, 0))  # (the student's view, the teacher's view)
Losses = namedtuple("Losses", "group slot total queries")  # (2,), (2,), scalar, list of two numbers


class Settings(NamedTuple):
    """The method's constants."""

    student_temperature: float = 0.1
    teacher_temperature: float = 0.07  # of the grouping target and of all attention
    slot_temperature: float = 0.2
    center_momentum: float = 0.9
    group_weight: float = 0.5


class Projected(NamedTuple):
    """Pixels of one process, and the region that the two views of an image have in common."""

    student: list[Tensor]  # two views, (b, d, h, w) each, with gradient
    teacher: list[Tensor]  # two views, (b, d, h, w) each
    boxes: Tensor  # (2, b, 4) x1, y1, x2, y2 of the common region, fractions of a view, 0-1
    flips: Tensor  # (2, b) bool, whether the view was flipped left to right


@torch.no_grad()
def move_teacher(teacher: list[Tensor], student: list[Tensor], momentum: float) -> None:
    """`θ_t ← m θ_t + (1 − m) θ_s` for the parameters; batch-norm statistics are not averaged."""
    for teacher_weight, student_weight in zip(teacher, student, strict=True):
        teacher_weight.mul_(momentum).add_(student_weight, alpha=1 - momentum)


def project(student: Callable, teacher: Callable, views: list[Tensor], boxes, flips) -> Projected:
    """Encode and project two views (b, 3, h, w), one by one: batch norm sees one view at a time."""
    with torch.no_grad():
        teacher_pixels = [teacher(view) for view in views]
    return Projected([student(view) for view in views], teacher_pixels, boxes, flips)


def losses(mine, student_prototypes, teacher_prototypes, predictor, center, settings, others=()):
    """The `Losses` of one process, and the center (1, k) after the step.

    `mine` and `others`: `Projected` of this and of each other process; prototypes: (k, d) each.
    """
    student = [score_maps(pixels, student_prototypes) for pixels in mine.student]
    teachers = [[score_maps(x, teacher_prototypes) for x in p.teacher] for p in (mine, *others)]
    group = grouping_losses(mine, student, teachers[0], center, settings)
    slot, queries = slot_losses([mine, *others], student, teachers, predictor, settings)
    total = settings.group_weight * group.sum() + (1 - settings.group_weight) * slot.sum()
    means = torch.stack([scores.mean(dim=(0, 2, 3)) for views in teachers for scores in views])
    center = torch.lerp(means.mean(dim=0, keepdim=True), center, settings.center_momentum)
    return Losses(group, slot, total, queries), center.detach()


def project_levels(student: Callable, teacher: Callable, views, boxes, flips) -> list[Projected]:
    """As `project`, of networks that give the maps of several levels, each with its projector."""
    with torch.no_grad():
        teacher_pixels = [teacher(view) for view in views]
    pairs = zip(zip(*[student(view) for view in views]), zip(*teacher_pixels))
    return [Projected(mine, known, boxes, flips) for mine, known in pairs]


def level_losses(levels: list[tuple], encoder_weight: float):
    """DeCon: the total, and the `losses` of each level from its arguments, first the encoder's.

    Without weight the encoder has no level (Quetin et al., WACV 2026, arXiv 2503.17526).
    """
    results = [losses(*level) for level in levels]
    totals = [result.total for result, _ in results]
    decoder = totals[1:] if encoder_weight else totals
    total = (1 - encoder_weight) * sum(decoder) / len(decoder)
    return total + (encoder_weight * totals[0] if encoder_weight else 0), results


def score_maps(pixels: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of each pixel (b, d, h, w) and each prototype (k, d): (b, k, h, w)."""
    pixels, prototypes = F.normalize(pixels, dim=1), F.normalize(prototypes, dim=1)
    return torch.einsum("kd,bdhw->bkhw", prototypes, pixels)


def grouping_losses(mine, student_scores, teacher_scores, center, settings) -> Tensor:
    """Section 3.1: both views assign a place to the same prototypes. (2,), one per direction."""
    student = [inverse_augmentation(*v) for v in zip(student_scores, mine.boxes, mine.flips)]
    teacher = [inverse_augmentation(*v) for v in zip(teacher_scores, mine.boxes, mine.flips)]
    pairs = [(student[s], teacher[t]) for s, t in DIRECTIONS]
    return torch.stack([grouping_loss(*pair, center, settings) for pair in pairs])


def inverse_augmentation(maps: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Resample the common region (b, 4) of maps (b, k, h, w) to h × w pixels and undo the flips."""
    height, width = maps.shape[2:]
    maps = maps.float() if maps.dtype == torch.float16 else maps  # too coarse for coordinates
    boxes = boxes.to(maps.dtype) * maps.new_tensor([width, height, width, height])
    aligned = roi_align(maps, boxes.split(1), (height, width), aligned=True)
    return torch.stack([m.flip(2) if f else m for m, f in zip(aligned, flips.tolist())])


def grouping_loss(student: Tensor, teacher: Tensor, center: Tensor, settings: Settings) -> Tensor:
    """`−Σ_k softmax_k((s_t − c) / τ_t) · log softmax_k(s_s / τ_s)`, the mean over all pixels."""
    target = F.softmax((teacher - center[:, :, None, None]) / settings.teacher_temperature, dim=1)
    log_assignment = F.log_softmax(student / settings.student_temperature, dim=1)
    return -(target * log_assignment).sum(dim=1).mean()


def slot_losses(processes, student_scores, teachers_scores, predictor, settings):
    """Section 3.2: a slot is recognized in the other view. (2,), and the numbers of queries."""
    results, numbers, temperature = [], [], settings.teacher_temperature
    for s, t in DIRECTIONS:
        # Keys: the teacher's active slots, of all images of all processes; this process is first.
        keys, active = [], [sorted(active_slots(scores[t])) for scores in teachers_scores]
        for process, scores, rows in zip(processes, teachers_scores, active):
            keys.append(all_slots(process.teacher[t], scores[t], temperature).flatten(0, 1)[rows])
        keys = F.normalize(torch.cat(keys).detach(), dim=1)
        # Queries: this process's slots that are active in the student's view too.
        queries = sorted(active_slots(student_scores[s]) & set(active[0]))
        numbers.append(len(queries))
        if len(queries) < (2 if predictor.training else 1):  # batch norm needs two
            results.append(student_scores[s].sum() * 0)
            continue
        slots = all_slots(processes[0].student[s], student_scores[s], temperature).flatten(0, 1)
        cosines = F.normalize(predictor(slots[queries]), dim=1) @ keys.T
        row_of = {slot: row for row, slot in enumerate(active[0])}
        target = torch.tensor([row_of[slot] for slot in queries], device=keys.device)
        loss = F.cross_entropy(cosines / settings.slot_temperature, target)
        results.append(2 * settings.slot_temperature * loss)
    return torch.stack(results), numbers


def active_slots(scores: Tensor) -> set[int]:
    """Slots that have the highest score of some pixel, as `image · k + prototype`."""
    winners = scores.argmax(dim=1).flatten(1).tolist()
    return {image * scores.shape[1] + k for image, row in enumerate(winners) for k in row}


def all_slots(pixels: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Pool pixels by attention, a softmax over prototypes normalized over pixels: (b, k, d)."""
    attention = F.softmax(scores / temperature, dim=1) + 1e-6
    attention = attention / attention.sum(dim=(2, 3), keepdim=True)
    return torch.einsum("bkhw,bdhw->bkd", attention, pixels)


@torch.no_grad()
def lars_step(params, buffers, lr, momentum=0.9, weight_decay=1e-5, trust=0.001) -> None:
    """LARS (You et al., arXiv 1708.03888); plain momentum for one-dimensional parameters."""
    for p, buffer in zip(params, buffers, strict=True):
        step = p.grad
        if p.ndim != 1:
            step = p.grad + weight_decay * p
            size, step_size = p.norm(), step.norm()
            adapted = trust * size / step_size
            step = step * torch.where((size > 0) & (step_size > 0), adapted, 1.0)
        buffer.mul_(momentum).add_(step)
        p.sub_(buffer, alpha=lr)
