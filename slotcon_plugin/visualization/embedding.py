"""Prototypes as points in a plane."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

FEWEST = 8  # prototypes for t-SNE; with fewer, PCA is used


def positions(prototypes_kd: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Positions of prototypes (k, d) in a plane, in which similar ones are neighbors.

    t-SNE (van der Maaten & Hinton, 2008) of cosine distances, initialized with the first two
    principal components. No plane shows the distances of 256 directions in 256 dimensions, but
    t-SNE keeps neighbors; larger distances have no meaning.

    Returns:
        (k, 2) in [0, 1], both axes at one scale, and the method's name.
    """
    directions_kd = prototypes_kd / np.linalg.norm(prototypes_kd, axis=1, keepdims=True)
    count = len(directions_kd)
    components = min(2, *directions_kd.shape)
    plane = PCA(components, random_state=seed).fit_transform(directions_kd)
    plane = np.pad(plane, ((0, 0), (0, 2 - components)))
    name = "PCA"
    if count >= FEWEST:
        start = plane / max(plane[:, 0].std(), 1e-9) * 1e-4
        near = min(30, (count - 1) / 3)
        model = TSNE(perplexity=near, metric="cosine", init=start, random_state=seed)
        plane, name = model.fit_transform(directions_kd), "t-SNE"
    low, extent = plane.min(axis=0), np.ptp(plane, axis=0).max() or 1.0
    margins = (extent - np.ptp(plane, axis=0)) / 2
    return (plane - low + margins) / extent, name


def closest(prototypes_kd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most similar other prototype of each, (k,) int, and their cosine, (k,)."""
    directions_kd = prototypes_kd / np.linalg.norm(prototypes_kd, axis=1, keepdims=True)
    cosine_kk = directions_kd @ directions_kd.T
    np.fill_diagonal(cosine_kk, -np.inf)
    other = cosine_kk.argmax(axis=1)
    return other, cosine_kk[np.arange(len(other)), other]
