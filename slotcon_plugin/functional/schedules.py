"""Schedules as functions of the step, so that a resumed training has the same values."""

import math


def teacher_momentum(step: int, total_steps: int, base: float = 0.99) -> float:
    """The share of the teacher that step k keeps: `1 - (1 - base)(cos(π k / K) + 1) / 2`.

    k is counted from 0, K = `total_steps` is at least 1. Rises from `base`, in [0, 1], to 1.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / total_steps) + 1) / 2


def learning_rate(
    step: int,
    total_steps: int,
    warmup_steps: int,
    peak: float,
    final: float = 1e-6,
    start_divisor: float = 100,
) -> float:
    """Linear warm-up from `peak / start_divisor`, then a cosine to `final`.

    Steps are counted from 0: step `warmup_steps` has the peak, step `total_steps`, at least
    `warmup_steps`, would have `final`.
    """
    if step < warmup_steps:
        start = peak / start_divisor
        return start + (peak - start) * step / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
