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
from .segmentation_scores import count_confusions, describe


def score_matchings(
    counts_kl: Tensor, classes: Sequence[str], matching: Sequence[str]
) -> dict[str, dict]:
    """Match clusters to classes and score them, for each name of `MATCHINGS`; see `describe`."""
    results = {}
    for name in matching:
        classes_k = MATCHINGS[name](counts_kl)
        scores = describe(matched_counts(counts_kl, classes_k), classes)
        results[name] = scores | dict(clusters=classes_k.tolist())
    return results


def unsupervised(
    groups: Network,
    train: None,
    test: Dataset,
    loader: LoaderOptions,
    matching: Sequence[str] = tuple(MATCHINGS),
) -> dict:
    """Assign each pixel to the prototype with the largest score, and match prototypes to classes.

    `groups` gives scores (b, k, h, w), such as a `PixelGroups`; `train` is not used; `test` is a
    `LabeledImages`; `matching` has names of `MATCHINGS`.
    """
    (counts_kl,) = count_confusions(lambda images: [groups(images)], test, loader)
    num_prototypes, num_classes = counts_kl.shape
    result = dict(
        prototypes=num_prototypes,
        prototypes_used=int((counts_kl.sum(dim=1) > 0).sum()),
        matchings=score_matchings(counts_kl, test.classes, matching),
    )
    if num_prototypes != num_classes:
        result["note"] = (
            f"{num_prototypes} prototypes for {num_classes} classes: the one-to-one score of the "
            "protocol needs as many prototypes as classes. Compare many-to-one scores only between "
            "equal numbers of prototypes."
        )
    return result


def sample_directions(
    features: Network, dataset: Dataset, limit: int, seed: int, loader: LoaderOptions
) -> Tensor:
    """Directions of random cells, (n, d) float32 of unit length; see `batches.sample_rows`."""

    def rows(batch: dict[str, Tensor]) -> Tensor:
        return unit_directions(features(batch["inputs"])).flatten(2).transpose(1, 2)

    def choose(rows_pd: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(rows_pd), generator=generator)

    return sample_rows(rows, choose, dataset, limit, seed, loader, "sampling")


def overcluster(
    features: Network,
    train: Dataset | None,
    test: Dataset,
    loader: LoaderOptions,
    clusters: Sequence[int] = (27, 100, 500),
    directions: int = 200_000,
    matching: Sequence[str] = tuple(MATCHINGS),
    seed: int = 0,
) -> dict:
    """Cluster an encoder's features by k-means, and match the clusters to classes.

    At most `directions` features of `train`, or of `test` if it is None, are clustered, into each
    number of `clusters`; these are scored on `test`. `matching` has names of `MATCHINGS`.
    """
    directions_nd = sample_directions(features, train or test, directions, seed, loader)
    if max(clusters) > len(directions_nd):
        raise ConfigError(
            f"--clusters {max(clusters)}: there are {len(directions_nd)} features to cluster. Use "
            "fewer clusters, more images, or an earlier --stage."
        )
    centers = [fit_centers(directions_nd, count, seed=seed) for count in clusters]
    if world_size() > 1:
        for centers_kd in centers:
            dist.broadcast(centers_kd, 0)  # sums on GPUs may differ in the last digits

    def score_maps(images: Tensor) -> list[Tensor]:
        directions_bdhw = unit_directions(features(images))
        return [prototype_scores(directions_bdhw, centers_kd) for centers_kd in centers]

    clusterings = {
        str(len(counts_kl)): score_matchings(counts_kl, test.classes, matching)
        for counts_kl in count_confusions(score_maps, test, loader)
    }
    return dict(directions=len(directions_nd), clusterings=clusterings)
