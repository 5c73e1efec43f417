"""Encoder and projector alone, in bfloat16 with channels last, beside plain float16."""

import torch
from mmengine.registry import MODELS

from benchmarks.measuring import Pair


def network_pairs(config: dict, batch: int, size: int, device: str) -> dict[str, Pair]:
    """One view in the student, forward and backward, and in the teacher, forward; not compiled.

    Args:
        config: of a SlotCon model.
        batch, size: number of images, and their height and width in pixels.
        device: "cuda", or "cpu" as a test.
    """
    sides = []
    images = torch.randn(batch, 3, size, size, device=device)
    for dtype, channels_last in ((torch.bfloat16, True), (torch.float16, False)):
        model = MODELS.build({**config, "compile": False, "channels_last": channels_last})
        sides.append(_passes(model.to(device).train(), images, dtype))
    names = "student, a view forward and backward", "teacher, a view forward"
    return dict(zip(names, zip(*sides, strict=True), strict=True))


def _passes(model, images, dtype):
    def student():
        with torch.autocast(images.device.type, dtype):
            features = model.neck(model.backbone(images))
        features.float().square().mean().backward()
        return features

    def teacher():
        with torch.no_grad(), torch.autocast(images.device.type, dtype):
            return model.teacher.neck(model.teacher.backbone(images))

    return student, teacher
