"""The plain values of a config, and which of them depend on the machine."""

from collections.abc import Iterator

# A pattern of the entries that decide how fast images are loaded, not which.
LOADING = r"\w+_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)"


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """The values in nested dictionaries and in lists of them, with their dotted keys.

    A list without dictionaries is one value, and so is an empty dictionary.
    """
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value):
        parts = enumerate(value)
    else:
        yield key, list(value) if isinstance(value, tuple) else value
        return
    for name, part in parts:
        yield from leaves(part, f"{key}.{name}" if key else str(name))


def without_indices(key: str) -> str:
    """A dotted key without the indices of lists."""
    return ".".join(part for part in key.split(".") if not part.isdigit())
