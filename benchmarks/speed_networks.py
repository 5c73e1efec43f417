"""The networks: encoder and projector alone, and a whole step of a config without its data."""

import copy

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from benchmarks.measuring import Pair
from benchmarks.plain_model import random_geometry
from benchmarks.plain_training import PlainTrainer
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.runtime.fit_machine import fit_precision


def network_pairs(config: dict, batch: int, size: int, device: str) -> dict[str, Pair]:
    """One view in the student, forward and backward, and in the teacher, forward; not compiled.

    Ours computes in bfloat16 with channels last, the plain side in float16.

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


def step_pair(
    cfg: Config, batch: int, size: int, device: str, dtype: torch.dtype = torch.float32
) -> Pair:
    """A step of MMEngine's runner with the config's networks and optimizer, beside the plain one.

    Teacher, losses, gradients, clipping, update; on a GPU in bfloat16 beside float16. Views are
    normal noise. Each side returns the total of the losses, then the parameters.

    Args:
        cfg: a pretraining's config; the optimizer must be one of torch.
        batch, size: number of images, and height and width of the views in pixels.
        device: "cuda" or "cpu".
        dtype: of parameters and views.
    """
    fit_precision(cfg, "bf16" if device == "cuda" else None)
    model = MODELS.build({**cfg.model, "data_preprocessor": None}).to(dtype)
    model, plain_model = model.to(device).train(), copy.deepcopy(model).to(device)
    views = list(torch.randn(2, batch, 3, size, size, dtype=dtype).to(device))
    boxes, flips = random_geometry(batch)
    data = dict(inputs=views, data_samples=ViewGeometry(boxes.to(device, dtype), flips.to(device)))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimizer = build_optim_wrapper(plain_model, cfg.optim_wrapper).optimizer
    for group in optimizer.param_groups:
        group["foreach"] = False  # tensor by tensor
    norm = cfg.optim_wrapper.clip_grad.max_norm

    def update():
        torch.nn.utils.clip_grad_norm_(trainer.params, norm, foreach=False)
        optimizer.step()

    trainer = PlainTrainer(plain_model, device, update)

    def ours():
        model.update_teacher(0, 1)
        losses = model.train_step(data, wrapper)
        return losses["loss"], *model.parameters()

    def plainly():
        places = boxes.transpose(0, 1), flips.transpose(0, 1)
        return trainer.step(torch.stack(views, dim=1), *places), *plain_model.parameters()

    return ours, plainly
