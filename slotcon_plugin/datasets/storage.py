"""Where the bytes of an image are: a file, an archive's member, a data set's row, or elsewhere.

An image is named by one text, its address: a path; an archive's path and the name in it, as
"photos.zip/sea/1.jpg"; a Hugging Face data set and a row, as "hf:NAME?split=train&column=image/17";
or, for a storage backend of MMEngine, a URI such as "s3://bucket/1.jpg" or what its `get` takes.
"""

import re
from collections.abc import Callable
from functools import partial

from mmengine import fileio
from mmengine.fileio.backends import backends, prefix_to_backends

from ..errors import ConfigError, DataError
from ..runtime.regular_files import HEAD, printable, read_regular_file
from .archives import open_archive, split_archive
from .hugging_face import PREFIX, open_rows, split_address

Check = Callable[[bytes], object]
Reader = Callable[[int, Check], bytes]
URI = re.compile(r"[A-Za-z][\w.+:-]*://")


def is_elsewhere(address: str, backend_args: dict | None) -> bool:
    """Whether a storage backend of MMEngine reads it."""
    return not address.startswith(PREFIX) and bool(backend_args or URI.match(address))


def find_reader(address: str, backend_args: dict | None = None) -> Reader:
    """What reads an image: called with the most bytes and a check of the first `HEAD` ones.

    This may index an archive or open a data set, if this process has not done so before. Reading
    raises a ValueError or an OSError.
    """
    if is_elsewhere(address, backend_args):
        backend = open_backend(address, backend_args)
        return partial(_checked, lambda most: _read_elsewhere(backend, address, most))
    if address.startswith(PREFIX):
        source, name = split_address(address)
        return partial(_checked, partial(open_rows(source).read, name))
    if found := split_archive(address):
        path, name = found
        return partial(_checked, partial(open_archive(path).read, name))
    return partial(read_regular_file, address)


def _checked(read: Callable[[int], bytes], most: int, check: Check) -> bytes:
    data = read(most)
    check(data[:HEAD])
    return data


def _read_elsewhere(backend: fileio.BaseStorageBackend, address: str, most: int) -> bytes:
    data = bytes(backend.get(address))
    if not 0 < len(data) <= most:
        raise ValueError(f"it has {len(data):,} bytes, expected 1 to {most:,}")
    return data


def open_backend(address: str, backend_args: dict | None) -> fileio.BaseStorageBackend:
    """MMEngine's backend that `backend_args` or the URI names; a ConfigError if there is none."""
    try:
        return fileio.get_file_backend(address, backend_args=backend_args, enable_singleton=True)
    except Exception as error:  # of any backend, also one of the user
        args, problem = dict(backend_args or {}), f"{type(error).__name__}: {error}"
        prefixes = ", ".join(f"{prefix}://" for prefix in prefix_to_backends if prefix)
        raise ConfigError(
            f"{printable(address)} cannot be read with backend_args={args}: {problem}. Expected "
            f"dict(backend=NAME, …) with one of {', '.join(backends)}, or, without it, an address "
            f"that begins with one of {prefixes}"
        ) from error


def list_elsewhere(folder: str, backend_args: dict | None) -> list[str]:
    """Addresses of all files below a folder of a storage backend, without hidden ones."""
    backend = open_backend(folder, backend_args)
    try:
        names = list(backend.list_dir_or_file(folder, list_dir=False, recursive=True))
        return [
            str(backend.join_path(folder, name))
            for name in names
            if not any(part.startswith(".") for part in name.split("/"))
        ]
    except (AttributeError, NotImplementedError) as error:
        raise DataError(
            f"{type(backend).__name__} cannot list the files of {printable(folder)}. Give a list "
            "file, with one image on each line, which may be there too: .../list.txt"
        ) from error
    except Exception as error:
        raise DataError(f"{printable(folder)} cannot be listed: {error}.") from error
