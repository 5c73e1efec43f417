"""How far the work is and how long it will still take: bars on a terminal, lines in a file."""

import sys

from tqdm import tqdm

from ..functional.collectives import rank

# Seconds between two signs of life: a file gets a line each time.
EVERY = 0.5 if sys.stderr.isatty() else 30


class ProgressBar(tqdm):
    """A bar of the first process: done, speed, time left. In a file, a line every half minute."""

    def __init__(self, total: int, title: str, unit: str = "image", start: int = 0):
        super().__init__(
            total=total,
            initial=start,
            desc=title,
            unit=unit,
            mininterval=EVERY,
            smoothing=0.1,
            disable=rank() != 0,
        )
