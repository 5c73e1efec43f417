"""Vectors of whole images, for search, clustering and classifiers of one's own."""

from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..datasets.sources import list_images
from ..errors import ConfigError
from ..evaluation.batches import LoaderOptions, choose_device
from ..runtime.atomic_files import write_atomically
from ..runtime.config_rules import check_value, whole
from ..runtime.launch import announce
from ..runtime.regular_files import printable
from ..runtime.work_dir import check_writable
from ..visualization.survey import read_each, read_whole
from .load import load
from .trained_model import MAX_LONG_SIDE, SlotConModel

WAITING = 8  # batches of images that wait for others of their size, at most


class Embeddings(NamedTuple):
    """One row for each image: `vectors, paths = embed(...)`."""

    vectors: np.ndarray  # (n, c) float32, not of unit length
    paths: list[str]

    def __repr__(self) -> str:
        return f"Embeddings of {len(self.paths)} images, {self.vectors.shape[1]} channels"


def embed(
    data: str | Path | Iterable[str | Path],
    checkpoint: str | Path | SlotConModel,
    out: str | Path | None = None,
    part: str | None = None,
    level: str | int | None = None,
    projected: bool = False,
    size: int = 320,
    batch_size: int = 16,
    workers: int = 0,
    device: str | None = None,
    quiet: bool = False,
    overwrite: bool = False,
) -> Embeddings:
    """The mean over the map of every image, as `SlotConModel.features` returns it for one.

    Images that cannot be read are left out, which is printed.

    Args:
        data: folders, globs, list files or images, as `datasets.sources.list_images` takes them.
        checkpoint: a network as `load.load` takes it, or what that returned; of a config or
            "random:resnet50" the weights are random.
        out: a file: .npz with the arrays `vectors` and `paths`; or .npy
            with the vectors, and the paths, one on a line, in a file beside it that ends in .txt.
        part: "teacher" or "student" of a full checkpoint; None: the teacher.
        level: of a pretraining with a decoder, see `load.load`; None: the encoder.
        projected: the projector's features instead of the encoder's.
        size: short side of the network's input, pixels; the whole image is scaled to it.
        batch_size: images of one size that are encoded together, at most.
        workers: loader processes, at most one for each core.
        device: where the network runs; None: a GPU if there is one.
        quiet: no progress bar.
        overwrite: replace `out` if it is there; otherwise this is an error.
    """
    check_value("--size", size, whole(32))
    check_value("--batch-size", batch_size, whole(1))
    check_value("--workers", workers, whole(0))
    files = _check_out(out, overwrite)
    if not isinstance(checkpoint, SlotConModel):
        checkpoint = load(checkpoint, part, choose_device(device), level)
    network = checkpoint.dense_network(projected)
    paths = list_images(data)
    loader = LoaderOptions(checkpoint.device, batch_size, workers, progress=not quiet)
    read = partial(read_whole, size=size, max_long_side=MAX_LONG_SIDE)
    rows: dict[int, np.ndarray] = {}
    left_out: list[str] = []
    with torch.no_grad():
        for indices, images_b3hw in _batches_of_one_size(paths, read, loader, left_out):
            vectors_bc = network(images_b3hw.to(checkpoint.device)).float().mean(dim=(2, 3))
            rows.update(zip(indices, vectors_bc.cpu().numpy(), strict=True))
    used = sorted(rows)
    found = Embeddings(np.stack([rows[i] for i in used]), [paths[i] for i in used])
    if left_out:
        announce(printable(f"{len(left_out)} of {len(paths)} images left out: {left_out[0]}"))
    for file, content in zip(files, _contents(found, files)):
        write_atomically(content, file)
        announce(f"written: {file}")
    return found


def _check_out(out: str | Path | None, overwrite: bool) -> list[Path]:
    """The files to write."""
    if out is None:
        return []
    out = Path(out)
    if out.suffix not in (".npz", ".npy"):
        raise ConfigError(f"--out {out} ends in {out.suffix!r}, expected .npz or .npy.")
    # The file that is asked for comes last, when the other one is there.
    files = [out] if out.suffix == ".npz" else [out.with_suffix(".txt"), out]
    for file in files:
        check_writable(file, "--out", overwrite=overwrite)
    return files


def _contents(found: Embeddings, files: list[Path]) -> Iterator[bytes]:
    for file in files:
        content = BytesIO()
        if file.suffix == ".npz":
            np.savez(content, vectors=found.vectors, paths=np.array(found.paths))
        elif file.suffix == ".npy":
            np.save(content, found.vectors)
        else:
            lines = "".join(f"{path}\n" for path in found.paths)
            content.write(lines.encode("utf-8", "surrogateescape"))
        yield content.getvalue()


def _batches_of_one_size(
    paths: list[str], read: partial, loader: LoaderOptions, left_out: list[str]
) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and images (b, 3, h, w) of each batch; for the arguments see `read_each`."""
    waiting: dict[tuple, list[tuple[int, Tensor]]] = {}

    def take(shape: tuple) -> tuple[list[int], Tensor]:
        indices, images = zip(*waiting.pop(shape))
        return list(indices), torch.stack(images)

    for index, image in read_each(paths, read, loader, "embedding", left_out):
        same = waiting.setdefault(tuple(image.shape), [])
        same.append((index, image))
        if len(same) == loader.batch_size:
            yield take(tuple(image.shape))
        elif sum(map(len, waiting.values())) >= WAITING * loader.batch_size:
            yield take(max(waiting, key=lambda shape: len(waiting[shape])))
    for shape in list(waiting):
        yield take(shape)
