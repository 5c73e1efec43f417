"""The slot loss of one of several real processes in plain torch: all slots are exchanged.

Each process gathers all K slots of every image of every process, with a mask of the active ones,
and selects afterwards. (`plain.losses` computes all processes in one.)
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from slotcon_plugin import reference as plain


def gathered(tensor: Tensor) -> Tensor:
    """The tensors of all processes, of equal shapes, concatenated; no gradient."""
    everyone = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, tensor.detach().contiguous())
    return torch.cat(everyone)


def active_mask(scores: Tensor) -> Tensor:
    """Prototypes that have the highest score of a pixel, of maps (b, k, h, w): (b, k) bool."""
    mask = torch.zeros(scores.shape[:2], dtype=torch.bool, device=scores.device)
    return mask.scatter(1, scores.argmax(dim=1).flatten(1), True)


def slot_losses(
    mine: plain.Projected,
    student_prototypes: Tensor,
    teacher_prototypes: Tensor,
    predictor: nn.Module,
    settings: plain.Settings,
) -> Tensor:
    """This process's slot loss of both directions, (2,)."""
    student = [plain.score_maps(view, student_prototypes) for view in mine.student]
    teacher = [plain.score_maps(view, teacher_prototypes) for view in mine.teacher]
    results = []
    for s, t in plain.DIRECTIONS:
        keys = plain.all_slots(mine.teacher[t], teacher[t], settings.teacher_temperature)
        known = active_mask(teacher[t])
        everyone, everyones_mask = gathered(keys).flatten(0, 1), gathered(known).flatten()
        row = everyones_mask.cumsum(0) - 1
        queries = (active_mask(student[s]) & known).flatten().nonzero()[:, 0]
        slots = plain.all_slots(mine.student[s], student[s], settings.teacher_temperature)
        predictions = F.normalize(predictor(slots.flatten(0, 1)[queries]), dim=1)
        logits = predictions @ F.normalize(everyone[everyones_mask], dim=1).T
        first = dist.get_rank() * known.numel()
        loss = F.cross_entropy(logits / settings.slot_temperature, row[first + queries])
        results.append(2 * settings.slot_temperature * loss)
    return torch.stack(results)


def moved_center(scores: list[Tensor], center: Tensor, momentum: float) -> Tensor:
    """The center (1, k) after the step, from the teacher's scores of both views."""
    mean = torch.stack([maps.mean(dim=(0, 2, 3)) for maps in scores]).mean(dim=0, keepdim=True)
    dist.all_reduce(mean)
    return momentum * center + (1 - momentum) * mean / dist.get_world_size()
