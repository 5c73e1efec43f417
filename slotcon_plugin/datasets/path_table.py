"""Millions of paths in two tensors that worker processes share."""

import os
from collections.abc import Sequence

import numpy as np
import torch


class PathTable(Sequence[str]):
    """An immutable sequence of paths; a list of strings would be copied into every worker.

    A tensor holds the bytes of all paths, another where each ends; a common prefix is stored once.
    """

    def __init__(self, paths: Sequence[str]):
        encoded = [os.fsencode(path) for path in paths]  # file names need not be UTF-8
        self._prefix = os.path.commonprefix(encoded) if encoded else b""  # noqa: RUF071
        rests = [path[len(self._prefix) :] for path in encoded]
        self._ends = torch.from_numpy(np.cumsum([0, *map(len, rests)])).share_memory_()
        text = bytearray(b"".join(rests) or b"\0")
        self._text = torch.frombuffer(text, dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def digest_parts(self) -> list[bytes | memoryview]:
        """Bytes that are equal for equal paths in the same order."""
        tensors = (self._ends, self._text)
        return [self._prefix, *(memoryview(tensor.numpy()).cast("B") for tensor in tensors)]

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        start, stop = self._ends[index : index + 2].tolist()
        return os.fsdecode(self._prefix + self._text[start:stop].numpy().tobytes())
