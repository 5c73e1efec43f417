"""Unsupervised segmentation: prototypes, or clusters of features, against classes."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..errors import ConfigError
from ..functional.collectives import gather_in_order, rank, sum_over_processes, world_size
from ..functional.dense import upsampled_argmax
from ..functional.grouping import prototype_scores, unit_directions
from ..functional.kmeans import fit_centers
from . import coco_stuff
from .batches import Reading, batches
from .matching import (
    SegmentationScores,
    confusion_counts,
    match_majority,
    match_one_to_one,
    matched_counts,
    scores_of,
    segmentation_scores,
)

MATCHINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "one-to-one": match_one_to_one,
    "many-to-one": match_majority,
}


def count_agreement(
    scores_of_batch: Callable[[Tensor], Sequence[Tensor]],
    sizes: Sequence[int],
    dataset: Dataset,
    reading: Reading,
) -> list[Tensor]:
    """Confusion counts of several clusterings, in one pass over all processes' images.

    Args:
        scores_of_batch: from uint8 images to one map of scores (b, k, h, w) for each clustering.
        sizes: k of each.
        dataset: a `LabeledImages`.
        reading: batches and where they go.

    Returns:
        For each clustering (k, l) int64, of all processes.
    """
    num_classes = len(dataset.classes)
    counts = [torch.zeros(k, num_classes, dtype=torch.int64, device=reading.device) for k in sizes]
    for batch in batches(dataset, reading, "segmenting"):
        labels_byx = batch["labels"]
        maps = scores_of_batch(batch["inputs"])
        for total_kl, maps_bkhw in zip(counts, maps, strict=True):
            clusters_byx = upsampled_argmax(maps_bkhw, *labels_byx.shape[1:])
            total_kl += confusion_counts(clusters_byx, labels_byx, *total_kl.shape)
    return [sum_over_processes(total_kl).cpu() for total_kl in counts]


def score(counts_kl: Tensor, classes: Sequence[str], modes: Sequence[str]) -> dict[str, dict]:
    """Match clusters to classes and score them, for each mode of `MATCHINGS`: plain values.

    Things and stuff apart where the classes are COCO-Stuff's 27.
    """
    results = {}
    for mode in modes:
        classes_k = MATCHINGS[mode](counts_kl)
        scores = segmentation_scores(matched_counts(counts_kl, classes_k))
        results[mode] = describe(scores, classes) | dict(clusters=classes_k.tolist())
    return results


def describe(scores: SegmentationScores, classes: Sequence[str]) -> dict:
    """Scores in percent, by name; None for what does not occur."""
    result = dict(accuracy=_percent(scores.accuracy), miou=_percent(scores.mean_iou))
    if tuple(classes) == coco_stuff.CLASSES:
        for name, part in (("things", coco_stuff.THINGS), ("stuff", coco_stuff.STUFF)):
            accuracy, miou = scores_of(scores, part)
            result |= {f"accuracy_{name}": _percent(accuracy), f"miou_{name}": _percent(miou)}
    columns = scores.iou_l.tolist(), scores.recall_l.tolist(), scores.pixels_l.tolist()
    result["classes"] = {
        name: dict(iou=_percent(iou), accuracy=_percent(recall), pixels=pixels)
        for name, iou, recall, pixels in zip(classes, *columns, strict=True)
    }
    result["classes_in_labels"] = int((scores.pixels_l > 0).sum())
    return result


def _percent(value: float) -> float | None:
    return None if value != value else round(100 * value, 4)


def unsupervised(
    groups: Callable[[Tensor], Tensor],
    num_prototypes: int,
    dataset: Dataset,
    modes: Sequence[str],
    reading: Reading,
) -> dict:
    """Segment by the arg-max of the prototypes' scores, as the unsupervised protocol does.

    Args:
        groups: from uint8 images to scores (b, k, h, w), as `PixelGroups` is.
        num_prototypes: k.
        dataset: a `LabeledImages`.
        modes: of `MATCHINGS`.
        reading: batches and where they go; the network is there.
    """
    size = num_prototypes
    (counts_kl,) = count_agreement(lambda images: [groups(images)], [size], dataset, reading)
    used = int((counts_kl.sum(dim=1) > 0).sum())
    scores = score(counts_kl, dataset.classes, modes)
    result = dict(prototypes=size, prototypes_used=used, matchings=scores)
    classes = len(dataset.classes)
    if size != classes:
        result["note"] = (
            f"{size} prototypes for {classes} classes: the protocol's one-to-one figure needs as "
            "many prototypes as classes. Compare many-to-one among equal numbers of prototypes."
        )
    return result


def sample_directions(
    features: nn.Module,
    dataset: Dataset,
    most: int,
    seed: int,
    reading: Reading,
) -> Tensor:
    """Directions of cells of all images, equally many of each image, chosen by chance.

    Returns:
        (n, d) float32 of unit length, at most `most`. Of all processes, the same on each and for
        any number of them, in the order of the images.
    """
    each = max(most // len(dataset), 1)
    kept, order, image = [], [], rank()
    for batch in batches(dataset, reading, "sampling"):
        directions_bdhw = unit_directions(features(batch["inputs"]))
        for directions_pd in directions_bdhw.flatten(2).transpose(1, 2):
            # Seeded for each image: the same cells for any number of processes.
            generator = torch.Generator().manual_seed(seed * len(dataset) + image)
            chosen = torch.randperm(len(directions_pd), generator=generator)[:each]
            chosen = chosen.to(directions_pd.device)
            kept.append(directions_pd[chosen])
            order.append(torch.full_like(chosen, image))
            image += world_size()
    return gather_in_order(torch.cat(kept), torch.cat(order))[:most]


def overcluster(
    features: nn.Module,
    dataset: Dataset,
    sizes: Sequence[int],
    modes: Sequence[str],
    reading: Reading,
    fit_dataset: Dataset | None = None,
    most: int = 200_000,
    seed: int = 0,
) -> dict:
    """Segment by k-means clusters of an encoder's features: any encoder, on the same footing.

    Args:
        features: from uint8 images to (b, d, h, w).
        dataset: a `LabeledImages`, on which the clusters are scored.
        sizes: the numbers of clusters.
        modes: of `MATCHINGS`.
        reading: batches and where they go.
        fit_dataset: images to cluster; by default those that are scored.
        most: directions that are clustered, which bounds the memory.
        seed: of the sample and of k-means.
    """
    directions_nd = sample_directions(features, fit_dataset or dataset, most, seed, reading)
    if max(sizes) > len(directions_nd):
        raise ConfigError(
            f"--clusters {max(sizes)}: there are {len(directions_nd)} features to cluster. Take "
            "fewer clusters, more images, or an earlier --stage."
        )
    centers = []
    for size in sizes:
        centers_kd = fit_centers(directions_nd, size, seed=seed)
        if world_size() > 1:
            dist.broadcast(centers_kd, 0)  # sums on GPUs may differ in the last digits
        centers.append(centers_kd)

    def all_scores(images: Tensor) -> list[Tensor]:
        directions_bdhw = unit_directions(features(images))
        return [prototype_scores(directions_bdhw, centers_kd) for centers_kd in centers]

    counts = count_agreement(all_scores, sizes, dataset, reading)
    return dict(
        directions=len(directions_nd),
        clusterings={
            str(size): score(counts_kl, dataset.classes, modes)
            for size, counts_kl in zip(sizes, counts, strict=True)
        },
    )
