"""Time to list and read images from a folder, archives and a Hugging Face data set, as a table.

All kinds are read in turns, so that the ratios are of one run. Times are CPU times, and the files
are in the system's cache: what is compared is the work, not a disk. docs/images.md has the table.
"""

import argparse
import shutil
import sys
import time
from io import BytesIO
from pathlib import Path
from tarfile import TarFile, TarInfo
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without installation too

from benchmarks.speed_data import write_jpegs  # noqa: E402
from slotcon_plugin.datasets import UnlabeledImages  # noqa: E402
from slotcon_plugin.datasets.archives import Archive  # noqa: E402
from slotcon_plugin.datasets.sources import list_images  # noqa: E402

KINDS = ("folder", "zip", "tar", "data set")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=25, help="of eight photographs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--members", type=int, default=100_000, help="of an archive to be indexed")
    args = parser.parse_args()
    with TemporaryDirectory() as top:
        sources = write_sources(Path(top), args.copies)
        listing, opened = {}, {}
        for kind in KINDS:
            start = time.process_time()
            opened[kind] = UnlabeledImages(sources[kind])
            listing[kind] = time.process_time() - start
        times = {kind: [] for kind in KINDS}
        for number in range(args.rounds):
            for kind in KINDS:
                start = time.process_time()
                for index in range(len(opened[kind])):
                    opened[kind][index, number]
                times[kind].append((time.process_time() - start) / len(opened[kind]))
        print("| source | to list | an image, read, decoded and cropped | ratio to a folder |")
        print("|---|---|---|---|")
        for kind in KINDS:
            ratio = np.median(np.divide(times[kind], times["folder"]))
            each = 1000 * np.median(times[kind])
            print(f"| {kind} | {listing[kind]:.2f} s | {each:.2f} ms | {ratio:.3f} |")
        write_large(Path(top), args.members)
        for kind in ("zip", "tar"):
            start = time.process_time()
            archive = Archive(f"{top}/large.{kind}")
            seconds = time.process_time() - start
            size = f"{archive.nbytes / 2**20:.1f} MiB"
            print(f"{kind}: {args.members:,} members: {seconds:.1f} s to index, {size}")


def write_sources(top: Path, copies: int) -> dict[str, str]:
    """The same photographs of 640 x 480 pixels as each kind of source."""
    import datasets

    write_jpegs(top / "folder", 640, 480, copies)
    for kind in ("zip", "tar"):
        shutil.make_archive(str(top / "photos"), kind, top / "folder")
    rows = datasets.Dataset.from_dict(dict(image=list_images(top / "folder")))
    rows = rows.cast_column("image", datasets.Image())
    rows.save_to_disk(top / "rows")
    sources = dict(folder="folder", zip="photos.zip", tar="photos.tar")
    paths = {kind: str(top / name) for kind, name in sources.items()}
    return paths | {"data set": f"hf:{top}/rows"}


def write_large(top: Path, members: int) -> None:
    """Archives of many small members, named as ImageNet's files are."""
    names = (f"n{i // 1300:08}/n{i // 1300:08}_{i}.JPEG" for i in range(members))
    with ZipFile(top / "large.zip", "w") as zipped, TarFile(top / "large.tar", "w") as tar:
        for name in names:
            zipped.writestr(name, b"small")
            info = TarInfo(name)
            info.size = 5
            tar.addfile(info, BytesIO(b"small"))


if __name__ == "__main__":
    main()
