"""Schedules as functions of the step, so that a resumed training has the same values."""

import math


def teacher_momentum(step: int, total_steps: int, base: float = 0.99) -> float:
    """The share of the teacher that step k keeps: `1 - (1 - base)(cos(π k / K) + 1) / 2`.

    Args:
        step: k, counted from 0.
        total_steps: K, the steps of the whole training, at least 1.
        base: value at step 0, in [0, 1].

    Returns:
        Momentum in [base, 1], rising to 1.
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

    Args:
        step: counted from 0. Step `warmup_steps` has the peak; step `total_steps` would have
            `final`.
        total_steps: steps of the whole training, at least `warmup_steps`.
        warmup_steps: steps of the warm-up, at least 0.
        peak, final: learning rates.
        start_divisor: the first step has `peak / start_divisor`.
    """
    if step < warmup_steps:
        start = peak / start_divisor
        return start + (peak - start) * step / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
