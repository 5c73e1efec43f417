"""Files of every kind are read as upright 8-bit RGB; broken ones raise one kind of error."""

import pickle
import struct
import zlib

import numpy as np
import pytest
from photographs import photograph_paths, photographs
from PIL import ExifTags, Image, ImageCms

from slotcon_plugin.datasets import decode
from slotcon_plugin.datasets.decode import UnreadableImage, read_image

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
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tif")
    return ["cut.jpg", "cut.png", "text.jpg", "empty.jpg", "folder.jpg", "missing.jpg", "float.tif"]


def test_broken_files_raise_one_error_that_names_them(tmp_path):
    for name in broken_files(tmp_path):
        with pytest.raises(UnreadableImage, match=name) as caught:
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
    for decoder in (decode.decode_jpeg, None):
        monkeypatch.setattr(decode, "decode_jpeg", decoder)
        for path in tmp_path.iterdir():
            pixels = decode.read_pixels(path)
            np.testing.assert_array_equal(pixels, np.asarray(decode._read(path)), str(path))
            assert pixels.dtype == np.uint8


@pytest.mark.skipif(decode.decode_jpeg is None, reason="needs simplejpeg")
def test_upright_rgb_jpegs_are_decoded_by_simplejpeg(image, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    files = dict(), dict(exif=exif), dict(icc_profile=profile), dict(progressive=True)
    monkeypatch.setattr(decode, "_read", None)
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


def test_an_image_beyond_pils_limit_is_unreadable_for_both(image, tmp_path, monkeypatch):
    image.save(tmp_path / "large.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (read_image, decode.read_pixels):
        with pytest.raises(UnreadableImage, match="DecompressionBombError"):
            read(tmp_path / "large.jpg")
