"""A linear probe: one linear layer of every pixel, on frozen features."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError
from ..functional.collectives import world_size
from .batches import LoaderOptions, Network, encode
from .matching import IGNORED
from .segmentation_scores import score_predictions

EACH = 4  # labels along each side of a cell of the feature map that are trained on
CACHE = 4 * 2**30  # bytes of features and labels that are kept instead of computed in every epoch


def probe(
    features: Network,
    train: Dataset,
    test: Dataset,
    loader: LoaderOptions,
    epochs: int = 20,
    lr: float = 0.1,
    seed: int = 0,
    *,
    cache: int = CACHE,
) -> dict:
    """Train the layer on one dataset and segment another one.

    Batch norm without scale and shift, so that features of any size are learned from equally fast,
    and a 1×1 convolution. The logits are upsampled to 4 × 4 evenly spaced labels of each cell, and
    to all labels for the scores. SGD with momentum 0.9, a cosine schedule from `lr` to zero, no
    weight decay, no augmentation. This recipe is our own: probes in the literature differ. The
    features of a dataset that fits into `cache` bytes are computed once.
    """
    if world_size() > 1:
        raise ConfigError("probe runs in one process; start it without torchrun.")
    example = train[0]
    map_1chw, num_classes = features(example["inputs"][None].to(loader.device)), len(test.classes)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layer = nn.Sequential(
            # momentum None: statistics are the mean over all steps. A moving average would start
            # at a variance of 1, and after few steps be far from that of small features.
            nn.BatchNorm2d(map_1chw.shape[1], affine=False, momentum=None),
            nn.Conv2d(map_1chw.shape[1], num_classes, 1),
        ).to(loader.device)
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9)
    steps = epochs * -(-len(train) // loader.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    layer.train()

    def read(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        maps_bchw = features(batch["inputs"])
        (h, w), (y, x) = maps_bchw.shape[2:], batch["labels"].shape[1:]
        grid = min(EACH * h, y), min(EACH * w, x)
        labels_b1ij = F.interpolate(batch["labels"][:, None], grid, mode="nearest-exact")
        return maps_bchw.half(), labels_b1ij[:, 0]

    needed = len(train) * map_1chw[0, 0].numel() * (2 * map_1chw.shape[1] + EACH**2)
    for maps_bchw, labels_bij in _epochs(read, train, loader, epochs, seed, needed <= cache):
        logits = layer(maps_bchw.to(map_1chw))
        logits = F.interpolate(logits, labels_bij.shape[1:], mode="bilinear", align_corners=False)
        losses = F.cross_entropy(logits, labels_bij.long(), ignore_index=IGNORED, reduction="sum")
        loss = losses / (labels_bij != IGNORED).sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layer.eval().requires_grad_(False)
    scores = score_predictions(lambda images: layer(features(images)), test, loader)
    results = dict(epochs=epochs, lr=lr, last_loss=round(loss.item(), 4), **scores)
    if not loss.isfinite():
        results["last_loss"] = None
        results["note"] = "The probe diverged (its loss is not finite): use a smaller --lr."
    return results


def _epochs(
    read: Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]],
    dataset: Dataset,
    loader: LoaderOptions,
    epochs: int,
    seed: int,
    cached: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `read` makes of batches in random order; `cached`: of each image once."""
    generator = torch.Generator().manual_seed(seed)
    if cached:
        wholes = encode(read, dataset, loader, "encoding")
        with loader.progress_bar(epochs, "training", "epoch") as bar:
            for _ in range(epochs):
                order = torch.randperm(len(dataset), generator=generator)
                for rows in order.split(loader.batch_size):
                    yield tuple(whole[rows].to(loader.device) for whole in wholes)
                bar.update(1)
        return
    options = dict(num_workers=loader.processes, generator=generator)
    load = DataLoader(dataset, loader.batch_size, shuffle=True, **options)
    with loader.progress_bar(epochs * len(load), "training", "step") as bar:
        for _ in range(epochs):
            for batch in load:
                yield read({name: value.to(loader.device) for name, value in batch.items()})
                bar.update(1)
