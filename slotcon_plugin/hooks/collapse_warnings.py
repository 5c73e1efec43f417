"""Words for a training whose features or groups collapse."""

import math
from collections.abc import Iterator, Mapping

from mmengine.logging import HistoryBuffer


def collapse_warnings(
    scalars: Mapping[str, HistoryBuffer],
    levels: Mapping[str, int],
    min_feature_std: float,
    min_prototypes: float,
    min_active_slots: float,
) -> Iterator[str]:
    """A line for each level with too small a deviation of features, too few prototypes in use, or
    too few groups in an image.

    Args:
        scalars: what was logged.
        levels: each level's number of prototypes, by the suffix of its scalars.
        min_feature_std, min_prototypes, min_active_slots: see `LossGuardHook`.
    """
    for suffix, total in levels.items():
        level = f" of level {suffix.removeprefix('_')}" * bool(suffix)
        std = scalars.get(f"train/feature_std{suffix}")
        if std and std.current() < min_feature_std:
            yield (
                f"the features{level} are collapsing: their standard deviation is "
                f"{std.current():.2g}, below {min_feature_std}. Is the learning rate 1.0 x global "
                "batch / 256? Is the batch per process 1, too small for batch norm?"
            )
        share = scalars.get(f"train/prototypes_used_running{suffix}")
        used = share.current() * total if share else math.inf
        if used <= min_prototypes + 1e-3:
            yield (
                f"the groups{level} are collapsing: about {used:.0f} of {total} prototypes get all "
                "pixels. Compare center momentum and teacher temperature with the recipe; with few "
                "images or a small model, use fewer prototypes and a longer warm-up."
            )
        slots = scalars.get(f"train/active_slots{suffix}")
        if slots and slots.current() < min_active_slots:
            yield (
                f"the groups{level} are collapsing: a view has {slots.current():.2f} groups, below "
                f"{min_active_slots}, so that nearly all of its pixels are one. Compare teacher "
                "momentum, center momentum and teacher temperature with the recipe."
            )


def rank_warning(rankme: float, least: float) -> str:
    """A line about features with a smaller RankMe than `least`."""
    return (
        f"the features are collapsing: RankMe is {rankme:.1f}, below {least:g}: they vary in few "
        "directions. Are learning rate, for this batch, and teacher momentum those of the recipe?"
    )
