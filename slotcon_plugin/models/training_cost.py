"""Whether a training fits into the memory of its device, and its arithmetic."""

import os
from typing import NamedTuple

import psutil
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..runtime.disk_space import moments_of
from ..runtime.text_formats import describe_bytes
from ..runtime.wrapping import unwrapped
from .step_cost import StepCost, step_cost

# Bytes of activations for each byte of images, at most: R50 has 150, a fine decoder 500.
SURELY = 1000


class TrainingCost(NamedTuple):
    """What one process needs of its device."""

    step: StepCost
    fixed: int  # bytes that do not depend on the batch: weights, buffers, optimizer
    free: int  # bytes that are free, or that this training has already
    batch_size: int
    device: str  # "GPU" or "CPU"

    @property
    def memory(self) -> int:
        """Bytes at the peak, estimated."""
        return self.fixed + self.step.memory

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.memory <= self.free

    @property
    def largest_batch(self) -> int:
        """The largest batch size that fits, estimated; 0 if there is none."""
        return max(int(self.batch_size * (self.free - self.fixed) / self.step.memory), 0)

    def describe(self) -> str:
        """One sentence; if there is not enough memory, with what to change."""
        least = "" if self.step.whole else "at least "
        words = f"{least}{describe_bytes(self.memory)} for {self.batch_size} images, estimated"
        words += f"; {describe_bytes(self.free)} of the {self.device}'s are free"
        if self.fits:
            return words
        batch = self.largest_batch
        advice = "use a smaller model or smaller images"
        if batch:
            advice = f"use train_dataloader.batch_size={batch} and, for the same global batch, "
            advice += f"+optim_wrapper.accumulative_counts={-(-self.batch_size // batch)}"
        mixed = ", or --amp bf16" if self.device == "GPU" else ""
        return f"{words}: NOT ENOUGH; {advice}{mixed}"


def training_cost(
    model: nn.Module, wrapper: OptimWrapper, batch: dict, batch_size: int, sure: bool = True
) -> TrainingCost | None:
    """The cost of a training's steps, of which nothing is allocated; see `step_cost`.

    Args:
        model: on the device of the training, in its wrapper if it has one.
        wrapper: has the optimizer and the precision.
        batch: a collated batch of any number of images, which have the size of the training's.
        batch_size: images of a process in one iteration.
        sure: estimate also what surely fits: SURELY times the images.

    Returns None for a model that cannot be run so, and for what surely fits.
    """
    model, trained = unwrapped(model), [p for p in model.parameters() if p.requires_grad]
    device = next(model.parameters()).device
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    gradients = sum(p.nbytes for p in trained)
    moments = moments_of(type(getattr(wrapper, "optimizer", None)).__name__)
    shared = torch.distributed.is_initialized()  # the gradients' buckets
    accumulates = getattr(wrapper, "_accumulative_counts", 1) > 1
    fixed = weights + gradients * (moments + shared + accumulates)
    free = _free_memory(device, weights)
    size = image_size(batch)
    if size is None or (not sure and fixed + SURELY * batch_size * 24 * size[0] * size[1] < free):
        return None
    cost = step_cost(model, batch_size, size, lambda: wrapper.optim_context(model))
    if cost is None:
        return None
    # The optimizer's own tensors, while all gradients exist and no activations.
    cost = cost._replace(memory=max(cost.memory, 3 * gradients))
    name = "GPU" if device.type == "cuda" else "CPU"
    return TrainingCost(cost, fixed, free, batch_size, name)


def image_size(batch: dict) -> tuple[int, int] | None:
    """Height and width of the largest images of a collated batch; None if it has none."""
    images = batch.get("views", batch.get("inputs")) if isinstance(batch, dict) else None
    if images is None or not all(isinstance(one, Tensor) and one.dim() > 2 for one in images):
        return None
    return tuple(max(one.shape[axis] for one in images) for axis in (-2, -1))


def _free_memory(device: torch.device, weights: int) -> int:
    """Bytes that a training may use, of which it has its weights already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    neighbors = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of this machine share it
    return psutil.virtual_memory().available // neighbors + weights
