"""A linear probe: one linear layer of every pixel, on frozen features."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError
from ..functional.collectives import world_size
from .batches import LoaderOptions, Network, encode
from .matching import IGNORED
from .segmentation_scores import score_predictions

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
    and a 1×1 convolution; the logits are upsampled to the labels. SGD with momentum 0.9, a cosine
    schedule from `lr` to zero, no weight decay, no augmentation. This recipe is our own: probes in
    the literature differ. The features of a dataset that fits into `cache` bytes are computed once.
    """
    if world_size() > 1:
        raise ConfigError("probe runs in one process; start it without torchrun.")
    example = train[0]
    map_1chw = features(example["inputs"][None].to(loader.device))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layer = nn.Sequential(
            # momentum None: statistics are the mean over all steps. A moving average would start
            # at a variance of 1, and after few steps be far from that of small features.
            nn.BatchNorm2d(map_1chw.shape[1], affine=False, momentum=None),
            nn.Conv2d(map_1chw.shape[1], len(test.classes), 1),
        ).to(loader.device)
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9)
    steps = epochs * -(-len(train) // loader.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    layer.train()
    needed = len(train) * (2 * map_1chw.numel() + example["labels"].numel())
    training = _epochs(features, train, loader, epochs, seed, cached=needed <= cache)
    for maps_bchw, labels_byx in training:
        logits = layer(maps_bchw.to(map_1chw))
        logits = F.interpolate(logits, labels_byx.shape[1:], mode="bilinear", align_corners=False)
        losses = F.cross_entropy(logits, labels_byx.long(), ignore_index=IGNORED, reduction="sum")
        loss = losses / (labels_byx != IGNORED).sum().clamp(min=1)
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
    features: Network, dataset: Dataset, loader: LoaderOptions, epochs: int, seed: int, cached: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of maps (b, c, h, w) and labels (b, y, x) in random order; float16 maps if cached."""
    generator = torch.Generator().manual_seed(seed)
    if cached:
        maps_nchw, labels_nyx = encode(lambda x: features(x).half(), dataset, loader, "encoding")
        with loader.progress_bar(epochs, "training", "epoch") as bar:
            for _ in range(epochs):
                order = torch.randperm(len(dataset), generator=generator)
                for rows in order.split(loader.batch_size):
                    yield maps_nchw[rows].to(loader.device), labels_nyx[rows].to(loader.device)
                bar.update(1)
        return
    options = dict(num_workers=loader.processes, generator=generator)
    load = DataLoader(dataset, loader.batch_size, shuffle=True, **options)
    with loader.progress_bar(epochs * len(load), "training", "step") as bar:
        for _ in range(epochs):
            for batch in load:
                maps_bchw = features(batch["inputs"].to(loader.device))
                yield maps_bchw, batch["labels"].to(loader.device)
                bar.update(1)
