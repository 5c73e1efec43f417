"""Images of Hugging Face data sets: a folder or file on disk, or a name on the hub."""

import glob
import os
from contextlib import suppress
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

from ..errors import ConfigError, DataError
from ..runtime.extras import import_extra
from ..runtime.regular_files import printable, read_regular_file
from ..runtime.text_formats import listed
from .archives import Members

PREFIX = "hf:"
OPTIONS = ("split", "column", "name", "revision")
EXPECTED = "Expected hf:NAME, hf:FOLDER or hf:FILE.parquet, then ?split=train&column=image"
SAVED = ("state.json", "dataset_dict.json")  # files of `save_to_disk`


class ImageRows(Members):
    """The rows of a data set, by their files' names or, where these are not unique, by number.

    `source` names the data set with its split and column. Rows are read from memory-mapped files.
    """

    def __init__(self, path: str, options: dict[str, str]):
        datasets = _library()
        rows = _one_split(_load(path, options), path, options.get("split"))
        column = _image_column(rows, path, options.get("column"))
        options = options | dict(column=column)
        if rows.split is not None:
            options.setdefault("split", str(rows.split))
        query = "&".join(f"{key}={quote(value, safe='[]:%+')}" for key, value in options.items())
        self.source = f"{PREFIX}{path}?{query}"
        rows = rows.select_columns([column])
        if len(rows.data) != len(rows):
            rows = rows.flatten_indices()
        try:
            self._rows = rows.cast_column(column, datasets.Image(decode=False))
        except Exception as error:  # of pyarrow, in many classes
            kind = rows.features[column]
            raise DataError(f"The column {column} of {path} has {kind}, not images.") from error
        self._column = column
        names = _file_names(self._rows.data.column(column))
        if names is None:
            width = len(str(len(rows) - 1))
            names = [f"{number:0{width}}" for number in range(len(rows))]
        super().__init__({name: (number,) for number, name in enumerate(names)})

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a row's image, at most `most`; a ValueError says why they cannot be read."""
        (number,) = self.place(name)
        image = self._rows[number][self._column] or {}
        data, path = image.get("bytes"), image.get("path")
        if data is None and path:
            return read_regular_file(path, most)
        if not data:
            raise ValueError("the row has no image")
        if len(data) > most:
            raise ValueError(f"the row has {len(data):,} bytes, expected at most {most:,}")
        return data


def split_address(address: str) -> tuple[str, str]:
    """The data set and the row ("" for all) of an address, as "hf:a/b?split=train/0001"."""
    path, _, rest = address.partition("?")
    query, _, name = rest.partition("/")
    return f"{path}?{query}" if query else path, name


_opened: dict[str, ImageRows] = {}


def open_rows(source: str, again: bool = False) -> ImageRows:
    """The rows of a data set such as "hf:NAME?split=train&column=image"."""
    if again or source not in _opened:
        rows = ImageRows(*_parse(source))
        _opened[source] = _opened[rows.source] = rows
    return _opened[source]


def _parse(source: str) -> tuple[str, dict[str, str]]:
    path, _, query = source.removeprefix(PREFIX).partition("?")
    options = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if not path or not set(options) <= set(OPTIONS) or not all(options.values()):
        raise ConfigError(f"The source {source} is not understood. {EXPECTED}, name= or revision=.")
    return path, {key: unquote(value) for key, value in options.items()}


def _library() -> ModuleType:
    return import_extra("datasets", "sources", "A Hugging Face data set")


def _load(path: str, options: dict[str, str]) -> Any:
    datasets, local, split = _library(), os.path.expanduser(path), options.get("split")
    files = sorted(glob.glob(local)) or [local]
    try:
        if any(os.path.isfile(os.path.join(local, name)) for name in SAVED):
            found = datasets.load_from_disk(local)
            if not isinstance(found, dict) and split not in (None, str(found.split)):
                raise ValueError(f"it is the split {found.split}, not {split}.")
            return found
        if local.endswith(".arrow"):
            return datasets.concatenate_datasets([*map(datasets.Dataset.from_file, files)])
        if local.endswith(".parquet"):
            return datasets.load_dataset("parquet", data_files=files, split=split)
        name, revision = options.get("name"), options.get("revision")
        return datasets.load_dataset(local, name, split=split, revision=revision)
    except Exception as error:  # of the library, pyarrow and the network, in many classes
        raise DataError(
            f"The data set {PREFIX}{printable(path)} cannot be opened: {type(error).__name__}: "
            f"{error} {EXPECTED}; without a network, one that was downloaded before."
        ) from error


def _one_split(found: Any, path: str, split: str | None) -> Any:
    if not isinstance(found, dict):
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise DataError(
            f"{PREFIX}{path} has the splits {', '.join(found)}: choose one, {PREFIX}{path}?split="
            f"{next(iter(found), 'train')}"
        )
    return found[split]


def _image_column(rows: Any, path: str, column: str | None) -> str:
    features, image = rows.features, _library().Image
    if column is None:
        images = [name for name, kind in features.items() if isinstance(kind, image)]
        images = images or [name for name in ("image", "img") if name in features]
        column = images[0] if len(images) == 1 else None
    if column not in features:
        raise DataError(
            f"{PREFIX}{path} has the columns {listed(list(features))}. Name the one with images: "
            f"{PREFIX}{path}?column=NAME"
        )
    return column


def _file_names(column: Any) -> list[str] | None:
    """The rows' file names, without the folder that all have in common; None if not unique."""
    names = [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]
    if None in names or len(set(names)) != len(names):
        return None
    with suppress(ValueError):  # absolute and relative ones
        folder = os.path.commonpath([os.path.dirname(name) for name in names])
        names = [os.path.relpath(name, folder) if folder else name for name in names]
    return None if any(name.startswith(("/", "..")) for name in names) else names
