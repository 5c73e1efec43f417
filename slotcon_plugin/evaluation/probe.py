"""A linear probe: one linear layer of every pixel, on frozen features."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import ConfigError
from ..functional.collectives import world_size
from ..functional.dense import upsampled_argmax
from .batches import Reading, batches, encode
from .matching import IGNORED, confusion_counts, segmentation_scores
from .unsupervised_segmentation import describe

CACHE = 4 * 2**30  # bytes of features and labels that are kept instead of computed in every epoch


def probe(
    features: nn.Module,
    train: Dataset,
    test: Dataset,
    reading: Reading,
    epochs: int = 20,
    lr: float = 0.1,
    cache: int = CACHE,
    seed: int = 0,
) -> dict:
    """Train the layer on one data set and segment another.

    Batch norm without scale and shift, then a 1×1 convolution, so that encoders with features of
    any size learn at the same rate; the logits are upsampled to the labels. SGD with momentum 0.9
    and a cosine to zero, no decay, no augmentation. Our recipe: probes of the literature differ.

    Args:
        features: from uint8 images to (b, c, h, w).
        train, test: `LabeledImages` of the same classes.
        reading: batches and where they go.
        epochs, lr: of the training.
        cache: bytes; features of a data set that fits are computed once.
        seed: of the order and of the layer.
    """
    if world_size() > 1:
        raise ConfigError("probe runs in one process; start it without torchrun.")
    channels = features(train[0]["inputs"][None].to(reading.device)).shape[1]
    classes = len(test.classes)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layer = nn.Sequential(
            # None: the mean of all batches. A moving one would begin at a variance of 1, and after
            # few steps be as wrong as the features are small.
            nn.BatchNorm2d(channels, affine=False, momentum=None),
            nn.Conv2d(channels, classes, 1),
        ).to(reading.device)
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9)
    steps = epochs * -(-len(train) // reading.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    layer.train()
    for maps_bchw, labels_byx in _epochs(features, train, reading, epochs, cache, seed):
        logits = layer(maps_bchw)
        logits = F.interpolate(logits, labels_byx.shape[1:], mode="bilinear", align_corners=False)
        losses = F.cross_entropy(logits, labels_byx.long(), ignore_index=IGNORED, reduction="sum")
        loss = losses / (labels_byx != IGNORED).sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layer.eval().requires_grad_(False)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=reading.device)
    for batch in batches(test, reading, "segmenting"):
        labels_byx = batch["labels"]
        predicted_byx = upsampled_argmax(layer(features(batch["inputs"])), *labels_byx.shape[1:])
        counts += confusion_counts(predicted_byx, labels_byx, classes, classes)
    scores = describe(segmentation_scores(counts.cpu()), test.classes)
    results = dict(epochs=epochs, lr=lr, last_loss=round(loss.item(), 4), **scores)
    if not loss.isfinite():
        results["last_loss"] = None
        results["note"] = "The probe diverged (its loss is not finite): take a smaller --lr."
    return results


def _epochs(
    features: nn.Module, dataset: Dataset, reading: Reading, epochs: int, cache: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of maps and labels, in a new order every epoch."""
    generator = torch.Generator().manual_seed(seed)
    first = dataset[0]
    one = features(first["inputs"][None].to(reading.device))
    if len(dataset) * (2 * one.numel() + first["labels"].numel()) <= cache:
        maps_nchw, labels_nyx = encode(
            lambda images: features(images).half(), dataset, reading, "encoding"
        )
        with reading.bar(epochs, "training", "epoch") as bar:
            for _ in range(epochs):
                order = torch.randperm(len(dataset), generator=generator)
                for rows in order.split(reading.batch_size):
                    yield maps_nchw[rows].to(one), labels_nyx[rows].to(reading.device)
                bar.update(1)
        return
    loader = DataLoader(
        dataset, reading.batch_size, True, num_workers=reading.workers, generator=generator
    )
    with reading.bar(epochs * len(loader), "training", "step") as bar:
        for _ in range(epochs):
            for batch in loader:
                maps_bchw = features(batch["inputs"].to(reading.device))
                yield maps_bchw, batch["labels"].to(reading.device)
                bar.update(1)
