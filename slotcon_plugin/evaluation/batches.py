"""Batches of images: each process loads its share, each image once, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..errors import ConfigError
from ..functional.collectives import gather_in_order, rank, world_size
from ..runtime.launch import cores_each

Network = Callable[[Tensor], Tensor]  # from uint8 RGB images (b, 3, y, x) to maps (b, c, h, w)


class LoaderOptions(NamedTuple):
    """How images are loaded, and the device of the network."""

    device: str | torch.device = "cpu"
    batch_size: int = 16
    workers: int = 0  # loader processes, of which at most one for each core is started
    progress: bool = False  # show progress bars, which need tqdm

    @property
    def processes(self) -> int:
        """The loader processes that are started."""
        return min(self.workers, cores_each())

    def progress_bar(self, total: int, title: str, unit: str = "image"):
        """A bar to use in a `with`; `update(n)` advances it. It does nothing without `progress`."""
        if self.progress:
            return progress_bar(total, title, unit)
        return nullcontext(SimpleNamespace(update=lambda n: None))


def progress_bar(total: int, title: str, unit: str = "image", start: int = 0):
    """tqdm's bar, in the first process only. In a file it writes a line every half minute.

    In a notebook it is text, as tqdm's own widget needs ipywidgets.
    """
    from tqdm import tqdm  # scoring during pretraining does not need it

    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    interval, disable = 0.5 if live else 30, rank() != 0
    options = dict(initial=start, desc=title, unit=unit, smoothing=0.1)
    return tqdm(total=total, mininterval=interval, disable=disable, **options)


def choose_device(name: str | None = None) -> str:
    """The named device; by default a GPU if there is one, another one for each local process."""
    if name is None and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    try:
        torch.zeros(1, device=name or "cpu").cpu()  # a device "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason, gpus = str(error).splitlines()[0], torch.cuda.device_count()
        raise ConfigError(
            f"--device {name} cannot be used: {reason}. Expected cpu, cuda or cuda:N; torch sees "
            f"{gpus} GPUs."
        ) from error
    return name or "cpu"


def in_both(one: Iterable[str], other: Iterable[str]) -> set[str]:
    """The image files that are in both.

    Links to folders are resolved, links to single images are not: ImageNet has a million.
    """
    resolve = cache(os.path.realpath)
    one, other = (
        {os.path.join(resolve(os.path.dirname(path)), os.path.basename(path)) for path in paths}
        for paths in (one, other)
    )
    return one & other


def check_disjoint(train: Dataset, test: Dataset, advice: str) -> None:
    """Check that no image is used both to learn from and to score; an error ends with `advice`."""
    learned, scored = ([path for path, _ in dataset.items] for dataset in (train, test))
    if shared := in_both(learned, scored):
        raise ConfigError(
            f"{len(shared)} of the {len(scored)} images to score are also among those to learn "
            f"from (first: {min(shared)}), where each would match itself. {advice}"
        )


def batches(dataset: Dataset, loader: LoaderOptions, title: str) -> Iterator[dict[str, Tensor]]:
    """Load this process's share of a dataset once: the images `rank() + i * world_size()`.

    Items are dicts of tensors of one size, with the image as `inputs`. `title` is the text in front
    of the progress bar.
    """
    if len(dataset) < world_size():
        raise ConfigError(
            f"{world_size()} processes for {len(dataset)} images: start at most {len(dataset)}."
        )
    share = Subset(dataset, range(rank(), len(dataset), world_size()))
    # With its own generator, the loader does not advance the one that the training uses.
    generator = torch.Generator()
    load = DataLoader(share, loader.batch_size, num_workers=loader.processes, generator=generator)
    with loader.progress_bar(len(share), title) as bar:
        for batch in load:
            yield {name: value.to(loader.device) for name, value in batch.items()}
            bar.update(len(batch["inputs"]))


def encode(
    read: Callable[[dict[str, Tensor]], tuple[Tensor, ...]],
    dataset: Dataset,
    loader: LoaderOptions,
    title: str,
) -> tuple[Tensor, ...]:
    """What `read` makes of this process's share: (n, ...) each, in main memory allocated once."""
    whole, done = None, 0
    for batch in batches(dataset, loader, title):
        parts = read(batch)
        if whole is None:
            share = len(range(rank(), len(dataset), world_size()))
            whole = [torch.empty((share, *part.shape[1:]), dtype=part.dtype) for part in parts]
        end = done + len(batch["inputs"])
        for tensor, part in zip(whole, parts):
            tensor[done:end] = part
        done = end
    return tuple(whole)


def sample_rows(
    rows_of: Callable[[dict[str, Tensor]], Tensor],
    choose: Callable[[Tensor, torch.Generator], Tensor],
    dataset: Dataset,
    limit: int,
    seed: int,
    loader: LoaderOptions,
    title: str,
) -> Tensor:
    """Choose at most `limit` rows, such as cells of a feature map, equally many of each image.

    Returns (n, d) in the order of the images: the same for any number of processes, as each image
    has its own random generator.

    Args:
        rows_of: from a batch to the rows of each image, (b, p, d).
        choose: from the rows of one image (p, d) and its generator to the numbers of the rows to
            keep, the preferred ones first.
    """
    each = max(limit // len(dataset), 1)
    kept, order, image = [], [], rank()
    for batch in batches(dataset, loader, title):
        for rows_pd in rows_of(batch):
            generator = torch.Generator().manual_seed(seed * len(dataset) + image)
            chosen = choose(rows_pd, generator)[:each].to(rows_pd.device)
            kept.append(rows_pd[chosen])
            order.append(torch.full_like(chosen, image))
            image += world_size()
    return gather_in_order(torch.cat(kept), torch.cat(order))[:limit]
