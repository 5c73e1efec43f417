"""Damage that is done to checkpoints, images, label maps and nested values, drawn from a seed."""

import os
import random
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# Values in places where others belong.
VALUES = (None, [], {}, "", "x", "-", True, 0, -1, 3, 0.5, -1e308, float("nan"), float("inf"))
VALUES += (2**31, 2**70, "a" * 5000, "\0", "é\n|=1", [[[[[]]]]], {"type": "x"}, [1, "a", None])
WORDS = ("", "-1", "0", "1", "2.5", "abc", "nan", "inf", "1e999", "9" * 40, "None", "True", "[1]")
WORDS += (
    "{'a': 1}",
    "dict(a=1)",
    "{}",
    "(",
    "a=1",
    "%s",
    "*",
    "~",
    "\udcff",
    "é",
    "a b",
    "x" * 5000,
)
WORDS += ("..", "/dev/null", "/dev/zero", "/dev/null/x", "/proc/self/mem", "no/such/file", "a\nb")


def nodes(tree: object) -> Iterator[tuple[object, object, str]]:
    """(container, key, path) of everything in nested dicts and lists."""
    stack = [(tree, "")]
    while stack:
        container, path = stack.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            where = f"{path}.{key}"[:200]
            yield container, key, where
            if isinstance(container[key], dict | list):
                stack.append((container[key], where))


def damage_tree(tree: object, draw: random.Random) -> str:
    """Change one random entry of nested dicts and lists in place. Returns what was changed."""
    container, key, where = draw.choice(list(nodes(tree)))
    if draw.random() < 0.25:
        del container[key]
        return f"{where} deleted"
    if isinstance(container, dict) and draw.random() < 0.15:
        container[draw.choice(("", "typ", "Type", "0", f"{key}s"))] = container.pop(key)
        return f"{where} renamed"
    container[key] = draw.choice(VALUES)
    return f"{where} = {container[key]!r:.60}"


def near(value: object, draw: random.Random) -> object:
    """A value like another one, such as a larger number or a shorter list."""
    if isinstance(value, bool) or value is None:
        return draw.choice((True, False, None))
    if isinstance(value, int | float):
        return draw.choice((-value, 2 * value, value / 2, value + 1, value - 1, 0, 1e9 * value))
    if isinstance(value, list | tuple) and value:
        return draw.choice((value[:-1], value[::-1], [*value, value[0]], value[0], [[*value]]))
    if isinstance(value, dict) and value:
        return {key: item for key, item in value.items() if key != draw.choice(list(value))}
    at = draw.randrange(len(value) + 1) if isinstance(value, str) else 0
    return draw.choice((f"{value}"[:at], f"{value} ", f"{value}/x", f"{value}".swapcase()))


def damage_bytes(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Cut, flip, overwrite, insert, repeat or delete at random positions."""
    data, at = bytearray(content), draw.randrange(len(content))
    kind = draw.choice(("cut", "flip", "flips", "zeros", "noise", "insert", "repeat", "delete"))
    length = draw.choice((1, 4, 64, 4096))
    if kind == "cut":
        del data[at:]
    elif kind == "flip":
        data[at] ^= 1 << draw.randrange(8)
    elif kind == "flips":
        for _ in range(32):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind in ("zeros", "noise"):
        part = bytes(length) if kind == "zeros" else draw.randbytes(length)
        data[at : at + length] = part[: len(data) - at]
    elif kind == "insert":
        data[at:at] = draw.randbytes(length)
    elif kind == "repeat":
        data[at:at] = data[at : at + length]
    else:
        del data[at : at + length]
    return bytes(data), f"{kind} at {at:,}"


def damage_tensor(state: dict, draw: random.Random) -> str:
    """Change one random tensor of a state dict, or its name. Returns what was changed."""
    name = draw.choice(list(state))
    way = draw.choice(("delete", "rename", "shape", "dtype", "nan", "type", "empty", "more"))
    value = state[name]
    if way == "delete":
        del state[name]
    elif way == "rename":
        state[f"x.{name}"] = state.pop(name)
    elif way == "shape":
        state[name] = torch.cat([value.reshape(-1), torch.zeros(1, dtype=value.dtype)])
    elif way == "dtype":
        state[name] = value.to(torch.float16 if value.dtype == torch.float32 else torch.float32)
    elif way == "nan":
        # A whole number cannot be NaN: there, another type.
        state[name] = torch.full_like(value, float("nan"), dtype=torch.float32)
    elif way == "type":
        state[name] = draw.choice(VALUES)
    elif way == "empty":
        state.clear()
    else:
        state[f"{name}_more"] = value
    return f"{way} of {name}"


def rewrite_zip(source: Path, path: Path, draw: random.Random) -> str:
    """Copy a checkpoint's archive, with one member left out, twice, cut or renamed."""
    way = draw.choice(("without", "twice", "cut", "renamed"))
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        chosen = draw.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            if name != chosen:
                new.writestr(name, data)
            elif way == "twice":
                new.writestr(f"{name}_", data)
                new.writestr(name, data)
            elif way != "without":
                new.writestr(name if way == "cut" else f"{name}x", data[: len(data) // 2])
    return f"{chosen} {way}"


def damage_image(images: Path, draw: random.Random) -> str:
    """Replace one of the images by something else."""
    file = images / "3.jpg"
    content = file.read_bytes()
    file.unlink()
    way = draw.choice(("bytes", "bytes", "format", "format", "special", "size"))
    if way == "bytes":
        data, what = damage_bytes(content, draw)
        file.write_bytes(data)
    elif way == "format":
        modes = (
            "1",
            "L",
            "LA",
            "P",
            "RGB",
            "RGBA",
            "CMYK",
            "YCbCr",
            "LAB",
            "HSV",
            "I",
            "F",
            "I;16",
        )
        mode, suffix = draw.choice(modes), draw.choice(("png", "tif", "webp", "gif", "bmp", "jpg"))
        image = Image.open(BytesIO(content))
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode)
        gray = np.asarray(image.convert("L"))
        image = image.convert(mode) if kind is None else Image.fromarray(gray.astype(kind) * 16)
        file = images / f"3.{suffix}"
        what = f"{mode} as {suffix}"
        buffer = BytesIO()
        try:
            image.save(buffer, {"tif": "TIFF", "jpg": "JPEG"}.get(suffix, suffix.upper()))
        except (OSError, ValueError, KeyError):  # the format has no such mode
            image.convert("RGB").save(buffer, "PNG")
        data = buffer.getvalue()
        if draw.random() < 0.5:
            data, more = damage_bytes(data, draw)
            what += f", {more}"
        file.write_bytes(data)
    elif way == "size":
        shape = draw.choice(((1, 3000), (4000, 1), (1, 1), (2, 2), (30_000, 3)))
        what = f"{shape[1]} x {shape[0]} pixels"
        image = Image.fromarray(np.zeros((*shape, 3), np.uint8))
        image.save(images / "3.png")
        if draw.random() < 0.3:  # a header that promises more
            data = bytearray((images / "3.png").read_bytes())
            data[16:24] = struct.pack(">II", *draw.choice(((2**31 - 1, 1), (100_000, 100_000))))
            (images / "3.png").write_bytes(data)
            what += " with a larger header"
    else:
        what = draw.choice(
            ("pipe", "loop", "dangling", "zero", "random", "folder", "empty", "text")
        )
        if what == "pipe":
            os.mkfifo(file)
        elif what == "folder":
            file.mkdir()
        elif what in ("empty", "text"):
            file.write_bytes(b"" if what == "empty" else b"hello\n" * 100)
        else:
            targets = dict(loop=file, dangling="nothing", zero="/dev/zero", random="/dev/urandom")
            file.symlink_to(targets[what])
    return what


def damage_map(file: Path, draw: random.Random) -> str:
    """Replace a label map by another one."""
    labels = np.asarray(Image.open(file))
    way = draw.choice(("bytes", "ids", "size", "mode", "deleted", "float"))
    if way == "bytes":
        data, what = damage_bytes(file.read_bytes(), draw)
        file.write_bytes(data)
        return f"{file.name}: {what}"
    if way == "ids":
        labels = labels + np.uint8(draw.choice((21, 60, 181, 254)))
    elif way == "size":
        labels = labels[: draw.choice((1, 30, 90))]
    image = Image.fromarray(labels)
    if way == "mode":
        way = draw.choice(("RGB", "RGBA", "1", "I;16", "LA"))
        image = Image.fromarray(labels.astype(np.uint16)) if way == "I;16" else image.convert(way)
    file.unlink()
    if way == "float":
        Image.fromarray(labels.astype(np.float32)).save(file, "TIFF")
    elif way != "deleted":
        image.save(file)
    return f"{file.name}: {way}"
