"""Unsupervised segmentation: prototypes, or clusters of features, against classes."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import ConfigError
from ..functional.collectives import world_size
from ..functional.grouping import prototype_scores, unit_directions
from ..functional.kmeans import fit_centers
from .batches import LoaderOptions, Network, sample_rows
from .matching import MATCHINGS, matched_counts
from .segmentation_scores import count_confusions, describe, segmentation_scores


def score_matchings(
    counts_kl: Tensor, classes: Sequence[str], matchings: Sequence[str]
) -> dict[str, dict]:
    """Match clusters to classes and score them, for each name of `MATCHINGS`; see `describe`."""
    results = {}
    for name in matchings:
        classes_k = MATCHINGS[name](counts_kl)
        scores = segmentation_scores(matched_counts(counts_kl, classes_k))
        results[name] = describe(scores, classes) | dict(clusters=classes_k.tolist())
    return results


def unsupervised(
    groups: Network,
    num_prototypes: int,
    dataset: Dataset,
    matchings: Sequence[str],
    loader: LoaderOptions,
) -> dict:
    """Assign each pixel to the prototype with the largest score, and match prototypes to classes.

    Args:
        groups: from images to scores (b, k, h, w), such as a `PixelGroups`; on the loader's device.
        num_prototypes: k.
        dataset: a `LabeledImages`.
        matchings: names of `MATCHINGS`.
        loader: how images are loaded.
    """
    counts = count_confusions(lambda images: [groups(images)], [num_prototypes], dataset, loader)
    result = dict(
        prototypes=num_prototypes,
        prototypes_used=int((counts[0].sum(dim=1) > 0).sum()),
        matchings=score_matchings(counts[0], dataset.classes, matchings),
    )
    if num_prototypes != len(dataset.classes):
        result["note"] = (
            f"{num_prototypes} prototypes for {len(dataset.classes)} classes: the one-to-one score "
            "of the protocol needs as many prototypes as classes. Compare many-to-one scores only "
            "between equal numbers of prototypes."
        )
    return result


def sample_directions(
    features: Network, dataset: Dataset, limit: int, seed: int, loader: LoaderOptions
) -> Tensor:
    """Directions of random cells, (n, d) float32 of unit length; see `batches.sample_rows`."""
    return sample_rows(
        lambda batch: unit_directions(features(batch["inputs"])).flatten(2).transpose(1, 2),
        lambda rows_pd, generator: torch.randperm(len(rows_pd), generator=generator),
        dataset,
        limit,
        seed,
        loader,
        "sampling",
    )


def overcluster(
    features: Network,
    dataset: Dataset,
    sizes: Sequence[int],
    matchings: Sequence[str],
    loader: LoaderOptions,
    fit_dataset: Dataset | None = None,
    limit: int = 200_000,
    seed: int = 0,
) -> dict:
    """Cluster an encoder's features by k-means, and match the clusters to classes.

    Args:
        features: the encoder, on the loader's device.
        dataset: the `LabeledImages` on which the clusters are scored.
        sizes: the numbers of clusters.
        matchings: names of `MATCHINGS`.
        loader: how images are loaded.
        fit_dataset: the images to cluster; by default those that are scored.
        limit: the largest number of directions to cluster, which bounds the memory.
        seed: of the sample and of k-means.
    """
    directions_nd = sample_directions(features, fit_dataset or dataset, limit, seed, loader)
    if max(sizes) > len(directions_nd):
        raise ConfigError(
            f"--clusters {max(sizes)}: there are {len(directions_nd)} features to cluster. Use "
            "fewer clusters, more images, or an earlier --stage."
        )
    centers = [fit_centers(directions_nd, size, seed=seed) for size in sizes]
    if world_size() > 1:
        for centers_kd in centers:
            dist.broadcast(centers_kd, 0)  # sums on GPUs may differ in the last digits

    def score_maps(images: Tensor) -> list[Tensor]:
        directions_bdhw = unit_directions(features(images))
        return [prototype_scores(directions_bdhw, centers_kd) for centers_kd in centers]

    counts = count_confusions(score_maps, sizes, dataset, loader)
    clusterings = {
        str(size): score_matchings(counts_kl, dataset.classes, matchings)
        for size, counts_kl in zip(sizes, counts, strict=True)
    }
    return dict(directions=len(directions_nd), clusterings=clusterings)
