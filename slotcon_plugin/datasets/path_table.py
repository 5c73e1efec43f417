"""Millions of paths in two tensors, which worker processes share instead of copying."""

import os
from collections.abc import Sequence

import numpy as np
import torch


class PathTable(Sequence[str]):
    """An unchangeable sequence of paths, packed into shared memory.

    A Python list of strings would be copied into every worker: forked memory is copied once a
    string's reference count is touched, spawned workers get a copy at once. Here all bytes lie in
    one tensor and the positions in another, and what the paths begin with alike is kept once.
    """

    def __init__(self, paths: Sequence[str]):
        encoded = [os.fsencode(path) for path in paths]  # any file name, also what is no UTF-8
        # Letter by letter on purpose: what all file names begin with is saved too.
        self._prefix = os.path.commonprefix(encoded) if encoded else b""  # noqa: RUF071
        skip = len(self._prefix)
        lengths = np.fromiter((len(path) - skip for path in encoded), np.int64, len(encoded))
        ends = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
        text = b"".join(path[skip:] for path in encoded)
        self._ends = ends.share_memory_()
        self._text = torch.frombuffer(bytearray(text or b"\0"), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        start, stop = self._ends[index : index + 2].tolist()
        return os.fsdecode(self._prefix + self._text[start:stop].numpy().tobytes())
