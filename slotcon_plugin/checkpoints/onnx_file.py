"""Writes an encoder as an ONNX model, after onnxruntime has computed the same as torch."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.measure import SIDE
from ..runtime.extras import import_extra
from .containers import METADATA_KEY
from .encoder import Encoder
from .fill import fill

TOLERANCE = 1e-4  # of the largest value of an output
INPUT, OUTPUTS = "images", ("map", "pooled")


class OnnxModel(NamedTuple):
    """A checked model."""

    data: bytes  # of the file
    images: str  # the number and size that it takes, for the report
    error: float  # largest difference from torch, as a share of the largest value


class _Shape(NamedTuple):
    """The images that a model takes."""

    axes: dict[int, str]  # those that are free, by name
    side: int  # pixels; height and width, if they are not free
    step: int = 1  # height and width are multiples of it

    def __str__(self) -> str:
        size = f"{self.side} x {self.side} pixels"
        if 2 in self.axes:
            size = "any size" if self.step == 1 else f"sizes that are multiples of {self.step}"
        return f"{'any number' if 0 in self.axes else 'one'} of {size}"


class _MapAndMean(nn.Module):
    """The last map (b, c, h / s, w / s) of normalized images (b, 3, h, w), and its mean (b, c)."""

    def __init__(self, encoder: nn.Module, step: int) -> None:
        super().__init__()
        encoder.eval()  # mmdet's ResNet does not return itself
        self.encoder, self.step = encoder, step

    def forward(self, images_b3hw: Tensor) -> tuple[Tensor, Tensor]:
        if self.step > 1:  # an error in onnxruntime for sizes that are no multiple of the step
            rows, columns = (side // self.step for side in images_b3hw.shape[2:])
            tiles = images_b3hw.reshape(-1, 3, rows, self.step, columns, self.step)
            images_b3hw = tiles.reshape(-1, 3, rows * self.step, columns * self.step)
        maps = self.encoder(images_b3hw)
        last = maps if isinstance(maps, Tensor) else maps[-1]
        return last, last.mean(dim=(2, 3))


@torch.no_grad()
def onnx_model(encoder: Encoder) -> OnnxModel:
    """The ONNX model of an encoder: images -> map, pooled. The metadata are in the file.

    Batch, height and width are free where the encoder allows it: this is tried first. Encoders
    that pad inside take multiples of their stride; others images of one size.

    Raises:
        ConfigError: a library is missing.
        CheckpointError: torch cannot export the encoder, or onnxruntime computes something else.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):
        import_extra(name, "onnx", "--to onnx")
    net = encoder.architecture.build()
    fill(net, encoder)
    timm_model = getattr(net, "net", None)
    side = timm_model.pretrained_cfg["input_size"][-1] if timm_model is not None else SIDE
    stride = max(1, round(side / _MapAndMean(net, 1)(torch.zeros(1, 3, side, side))[0].shape[-1]))
    reason = ""
    for shape in _shapes(side, stride):
        module = _MapAndMean(net, shape.step)
        try:
            with _quiet():
                data = _export(module, shape, stride, encoder.meta)
            return OnnxModel(data, str(shape), _compare(module, data, shape, stride))
        except Exception as error:  # of any network, in torch, onnxscript or onnxruntime
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    raise CheckpointError(
        f"{encoder.source}: the encoder {encoder.architecture} cannot be exported to ONNX: "
        f"{reason}. Nothing was written. Use --to timm or "
        "--to openmmlab."
    )


def _shapes(side: int, stride: int) -> list[_Shape]:
    """The shapes of images that are tried, the freest first."""
    batch, size = {0: "batch"}, {2: "height", 3: "width"}
    free = batch | size
    return [_Shape(free, side), _Shape(free, side, stride), _Shape(batch, side), _Shape({}, side)]


def _export(module: nn.Module, shape: _Shape, stride: int, meta: dict) -> bytes:
    """The bytes of the file."""
    width = shape.side + stride if 3 in shape.axes else shape.side
    program = torch.onnx.export(
        module,
        (torch.randn(2 if 0 in shape.axes else 1, 3, shape.side, width),),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes=(shape.axes,) if shape.axes else None,
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props[METADATA_KEY] = json.dumps(meta)
    return program.model_proto.SerializeToString()


def _compare(module: nn.Module, data: bytes, shape: _Shape, stride: int) -> float:
    """The largest difference between onnxruntime and torch on noise of several sizes."""
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    side, largest = shape.side, 0.0
    sizes = [(1, side, side)]
    if 0 in shape.axes:
        sizes += [(3, side, side)]
    if 2 in shape.axes:
        sizes += [(1, side - stride, side + 2 * stride)]
    if 2 in shape.axes and shape.step == 1:
        sizes += [(1, side - 1, side + stride // 2)]
    for size in sizes:
        images = torch.randn(size[0], 3, *size[1:])
        found = session.run(list(OUTPUTS), {INPUT: images.numpy()})
        for name, one, expected in zip(OUTPUTS, found, module(images)):
            expected = expected.numpy()
            if one.shape != expected.shape:
                raise ValueError(f"`{name}` has the shape {one.shape}, not {expected.shape}")
            error = float(np.abs(one - expected).max() / np.abs(expected).max())
            if not error <= TOLERANCE:
                raise ValueError(f"`{name}` differs from torch's by {error:.1g} of the largest")
            largest = max(largest, error)
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings and remarks, which are about their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
