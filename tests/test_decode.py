"""Files of every kind are read as upright 8-bit RGB; broken ones raise one kind of error."""

import os
import pickle
import re
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from photographs import photograph_paths, photographs, write_slow_jpeg
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from slotcon_plugin.datasets import decode
from slotcon_plugin.datasets.decode import UnreadableImage, read_image
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime import time_limit

Turn = Image.Transpose
SRGB = ImageCms.createProfile("sRGB")


@pytest.fixture(scope="module")
def image():
    return photographs(96)[2].crop((0, 0, 96, 64))  # not square: a rotation changes the size


def difference(ours, expected):
    assert ours.mode == "RGB" and ours.size == expected.size
    a, b = (np.asarray(p.convert("RGB"), np.float64) for p in (ours, expected))
    return np.abs(a - b).mean()


@pytest.mark.parametrize("path", photograph_paths())
def test_photographs_are_read_as_pil_reads_them(path):
    with Image.open(path) as expected:
        assert difference(read_image(path), expected.convert("RGB")) == 0


@pytest.mark.parametrize(
    ("mode", "suffix", "limit"),
    [
        ("RGB", "png", 0), ("RGB", "webp", 8), ("RGB", "jpg", 8), ("L", "jpg", 8), ("L", "png", 0),
        ("CMYK", "jpg", 8), ("P", "png", 0), ("1", "png", 0), ("LA", "png", 0), ("RGBA", "png", 0),
        ("RGBA", "webp", 8), ("P", "gif", 0),
    ],
)  # fmt: skip
def test_modes(mode, suffix, limit, image, tmp_path):
    path = tmp_path / f"a.{suffix}"
    stored = image.convert(mode)
    stored.save(path)
    assert difference(read_image(path), stored.convert("RGB")) <= limit


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, image, tmp_path):
    as_stored = {
        2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE,
        6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270,
    }  # fmt: skip
    stored = image.transpose(as_stored[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert difference(read_image(tmp_path / "a.jpg"), image) < 4
    assert decode.read_size(tmp_path / "a.jpg") == image.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored(image, tmp_path):
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").size == image.size


def test_transparent_parts_show_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, :2] = (200, 0, 0, 255)
    rgba[:, 2] = (200, 0, 0, 128)  # half: between red and white
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    ours = np.asarray(read_image(tmp_path / "alpha.png"))
    assert ours[0, 0].tolist() == [200, 0, 0] and ours[0, 3].tolist() == [255, 255, 255]
    assert np.abs(ours[0, 2].astype(int) - [227, 127, 127]).max() <= 1
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png", transparency=1)
    ours = np.asarray(read_image(tmp_path / "palette.png"))
    assert ours.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    assert (np.asarray(read_image(tmp_path / "rgb.png")) == 255).all()


def write_png(path, values, color_type):
    """A 16-bit PNG by hand: PIL writes no 16-bit color."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_are_scaled_to_8(color_type, channels, tmp_path):
    values = np.linspace(0, 65535, 256).round().astype(np.uint16)
    pixels = np.repeat(values.reshape(16, 16, 1), channels, axis=2)
    if channels in (2, 4):
        pixels[..., -1] = 65535  # opaque
    write_png(tmp_path / "a.png", pixels, color_type)
    ours = np.asarray(read_image(tmp_path / "a.png")).astype(int)
    assert np.abs(ours - np.arange(256).reshape(16, 16, 1)).max() <= 1


def broken_files(folder):
    photographs(96)[0].save(folder / "whole.jpg")
    photographs(96)[0].save(folder / "whole.png")
    for suffix in ("jpg", "png"):
        data = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "none.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "endless.jpg").symlink_to("/proc/self/pagemap")
    os.mkfifo(folder / "pipe.jpg")
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket.jpg"))
    with open(folder / "large.jpg", "wb") as file:
        file.truncate(2**40)
    return [
        *("cut.jpg", "cut.png", "text.jpg", "empty.jpg", "folder.jpg", "missing.jpg", "large.jpg"),
        *("circle.jpg", "dangling.jpg", "device.jpg", "endless.jpg", "pipe.jpg", "socket.jpg"),
        "zero\0byte.jpg",
    ]


def test_broken_files_raise_one_error_that_names_them(tmp_path):
    for name in broken_files(tmp_path):
        with pytest.raises(UnreadableImage, match=re.escape(name)) as caught:
            read_image(tmp_path / name)
        assert caught.value.path == str(tmp_path / name) and caught.value.reason
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)


def test_pixels_are_equal_with_and_without_simplejpeg(image, tmp_path, monkeypatch):
    files = dict(quality=70), dict(quality=95, subsampling=0), dict(progressive=True)
    for number, options in enumerate(files):
        image.save(tmp_path / f"{number}.jpg", **options)
    image.convert("L").save(tmp_path / "gray.jpg")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image.save(tmp_path / "turned_by_xmp.jpg", xmp=xmp)
    assert read_image(tmp_path / "turned_by_xmp.jpg").size == (image.height, image.width)
    image.save(tmp_path / "icc.jpg", icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes())
    image.save(tmp_path / "rgb.jpg", keep_rgb=True)
    image.save(tmp_path / "two.mpo", save_all=True, append_images=[image.rotate(180)])
    for path in tmp_path.iterdir():
        monkeypatch.undo()
        pixels = decode.read_pixels(path)
        monkeypatch.setattr(decode, "decode_jpeg", None)
        np.testing.assert_array_equal(pixels, decode.read_pixels(path), str(path))
        assert pixels.dtype == np.uint8


@pytest.mark.skipif(decode.decode_jpeg is None, reason="needs simplejpeg")
def test_upright_rgb_jpegs_are_decoded_by_simplejpeg(image, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    files = dict(), dict(exif=exif), dict(icc_profile=profile), dict(progressive=True)
    monkeypatch.setattr(decode.JpegImagePlugin.JpegImageFile, "load", None)
    for number, options in enumerate(files):
        image.save(tmp_path / f"{number}.jpg", **options)
        assert decode.read_pixels(tmp_path / f"{number}.jpg").shape == (64, 96, 3)


def test_a_truncated_jpeg_is_unreadable_for_both(image, tmp_path):
    image.save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    for read in (read_image, decode.read_pixels):
        with pytest.raises(UnreadableImage, match=r"cut\.jpg"):
            read(tmp_path / "cut.jpg")


@pytest.mark.parametrize(("suffix", "limit"), [("jpg", 0.006), ("png", 0.006), ("tif", 0.006)])
def test_large_images_are_refused_with_the_option(suffix, limit, image, tmp_path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # PIL's own limit has no option
    monkeypatch.setenv("SLOTCON_MAX_MEGAPIXELS", "0.02")
    assert read_image(path).size == image.size
    monkeypatch.setenv("SLOTCON_MAX_MEGAPIXELS", str(limit))
    with pytest.raises(UnreadableImage, match=r"96 x 64 .*SLOTCON_MAX_MEGAPIXELS=0.006"):
        read_image(path)


def test_large_tiles_are_refused(image, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(image), tile=(16, 16), compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    for tag in (322, 323):  # TIFF's entry: tag, type long, one value
        head = struct.pack("<HHI", tag, 4, 1)
        data = data.replace(head + struct.pack("<I", 16), head + struct.pack("<I", 65520))
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"65520 x 65520 pixels are 4,292\.9 megapixels"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["SLOTCON_MAX_MEGAPIXELS", "SLOTCON_READ_SECONDS"])
@pytest.mark.parametrize("value", ["", "many", "0", "-1", "nan", "inf"])
def test_wrong_limits_are_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} is '{value}', expected a number above 0"):
        read_image("any.jpg")


def test_reading_has_a_time_limit(image, tmp_path, monkeypatch):
    write_slow_jpeg(tmp_path / "slow.jpg")
    image.save(tmp_path / "fast.jpg")
    monkeypatch.setattr(time_limit, "GRACE", 0.1)
    monkeypatch.setenv("SLOTCON_READ_SECONDS", "0.2")
    start = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"longer than 0.2 s; SLOTCON_READ_SECONDS") as caught:
        read_image(tmp_path / "slow.jpg")
    assert isinstance(caught.value.__cause__, TimeoutError)
    monkeypatch.setenv("SLOTCON_READ_SECONDS", "20")
    assert read_image(tmp_path / "fast.jpg").size == image.size  # in a new thread
    assert time.monotonic() - start < 10


def test_the_threads_that_read_end_with_the_threads_that_ask(image, tmp_path):
    image.save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")  # the thread of this one stays
    before = set(threading.enumerate())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_image, [tmp_path / "a.png"] * 40))
    end = time.monotonic() + 10
    while (more := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.01)
    assert not more


# Rows of the table in docs/images.md: how such a file is written, and the pixels that are read,
# None if it is refused. The ramp goes from 0 to 255.
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
GRAY = np.repeat(RAMP[..., None], 3, axis=2)
WIDE = RAMP.astype(np.uint16) * 257
OPAQUE, CLEAR = np.full_like(RAMP, 255), np.zeros_like(RAMP)
MASK = np.where(RAMP < 128, OPAQUE, CLEAR)
ON_WHITE = np.where(RAMP < 128, RAMP, 255)[..., None].repeat(3, axis=2)


def bands(*arrays):
    return np.stack(arrays, axis=-1)


def tiff(pixels, **options):
    return lambda path: tifffile.imwrite(path.with_suffix(".tif"), pixels, **options)


def saved(pixels, suffix=".png", mode=None, **options):
    image = Image.fromarray(pixels)
    image = image.convert(mode) if mode else image
    return lambda path: image.save(path.with_suffix(suffix), **options)


def with_short_palette(path):
    palette = np.tile(np.arange(256, dtype=np.uint16), (3, 1))
    tifffile.imwrite(path.with_suffix(".tif"), RAMP, photometric="palette", colormap=palette)


def packed_12_bits(path):
    values = (WIDE >> 4).ravel().astype(int)
    high, low = values[::2], values[1::2]
    packed = bands(high >> 4, (high & 15) << 4 | low >> 8, low & 255).astype(np.uint8).tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.update({256: 16, 257: 16, 258: 12, 259: 1, 262: 1, 277: 1, 278: 16, 279: len(packed)})
    tags[273] = 0  # behind the tags
    path.with_suffix(".tif").write_bytes(b"II*\0\x08\0\0\0" + tags.tobytes(8) + packed)


STORED = {
    "RGB, 8 bits": {saved(GRAY): GRAY, saved(GRAY, ".bmp"): GRAY, tiff(GRAY): GRAY},
    "gray, 1 to 8 bits": {saved(RAMP): GRAY, saved(RAMP > 99): 255 * (GRAY > 99)},
    "palette": {saved(RAMP, mode="P"): GRAY, saved(RAMP, ".gif"): GRAY},
    "CMYK": {saved(GRAY, ".tif", "CMYK"): GRAY},
    "transparency": {saved(bands(*GRAY.T.swapaxes(1, 2), MASK)): ON_WHITE},
    "transparency 0 everywhere": {saved(bands(RAMP, RAMP, RAMP, CLEAR)): None},
    "16 bits, gray or color": {
        saved(WIDE): GRAY,
        tiff(WIDE): GRAY,
        tiff(WIDE, byteorder=">"): GRAY,
        tiff(bands(WIDE, WIDE, WIDE), photometric="rgb"): GRAY,
        tiff(bands(WIDE, WIDE, WIDE), photometric="rgb", compression="zlib"): GRAY,
    },
    "16 bits that reach less than a quarter of the range, such as 12 in 16": {
        saved(WIDE >> 4): None,
        tiff(WIDE >> 2): None,
        tiff(bands(WIDE, WIDE, WIDE) >> 4, photometric="rgb"): None,
        (lambda path: write_png(path, bands(WIDE, WIDE, WIDE) >> 4, 2)): None,
        (lambda path: write_png(path, bands(WIDE >> 4, WIDE | 65535), 4)): None,
    },
    "TIFF, 16 bits in separate planes": {
        tiff(np.stack([WIDE] * 3), photometric="rgb", planarconfig=2, compression=kind): None
        for kind in (None, "zlib")
    },
    "TIFF, 12 bits packed": {packed_12_bits: GRAY},
    "TIFF, 16 bits, white is zero": {tiff(65535 - WIDE, photometric="miniswhite"): GRAY},
    "TIFF, 32-bit or signed integers": {
        tiff(WIDE.astype(np.uint32)): None,
        tiff(WIDE.astype(np.int32)): None,
        tiff((WIDE >> 1).astype(np.int16)): None,
        tiff((RAMP >> 1).astype(np.int8)): None,
    },
    "TIFF, floating point": {
        tiff(WIDE.astype(np.float32)): None,
        tiff(RAMP.astype(np.float16)): None,
        tiff(RAMP / 255): None,
    },
    "TIFF, a fourth band of 0 and 255": {
        tiff(bands(RAMP, RAMP, RAMP, MASK), photometric="rgb", extrasamples=["unassalpha"]): (
            ON_WHITE
        ),
    },
    "TIFF, a fourth band with other values, such as infrared": {
        tiff(bands(RAMP, RAMP, RAMP, RAMP), photometric="rgb", extrasamples=[kind]): None
        for kind in ("unassalpha", "assocalpha")
    }
    | {tiff(bands(WIDE, WIDE, WIDE, WIDE), photometric="rgb", extrasamples=["unassalpha"]): None},
    "TIFF, a fourth band that is tagged as neither": {
        tiff(bands(RAMP, RAMP, RAMP, RAMP.T), photometric="rgb", extrasamples=[0]): GRAY
    },
    "TIFF, L\\*a\\*b\\*": {tiff(GRAY, photometric="cielab"): None},
    "TIFF, a palette with 8-bit values": {with_short_palette: None},
}


def test_docs_list_what_is_read():
    text = (Path(__file__).parents[1] / "docs" / "images.md").read_text(encoding="utf-8")
    table = text.partition("## What is read")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    read = dict(rows[1 : 1 + len(STORED)])
    assert list(read) == list(STORED)
    for name, files in STORED.items():
        assert all((read[name] == "refused") == (pixels is None) for pixels in files.values())


@pytest.mark.parametrize("name", STORED)
def test_what_is_read(name, tmp_path):
    for number, (write, expected) in enumerate(STORED[name].items()):
        write(tmp_path / f"{number}.png")
        (path,) = tmp_path.glob(f"{number}.*")
        if expected is None:
            with pytest.raises(UnreadableImage, match=path.name) as caught:
                read_image(path)
            assert len(caught.value.reason) > 20
        else:
            ours = np.asarray(read_image(path)).astype(int)
            assert np.abs(ours - expected).max() <= 1, path
