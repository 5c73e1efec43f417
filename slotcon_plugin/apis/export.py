"""Exports encoders for other libraries and converts full checkpoints."""

from pathlib import Path

from ..checkpoints import export_formats as formats
from ..checkpoints import read_encoder
from ..checkpoints.containers import pth_bytes, read_file
from ..checkpoints.published import to_ours, to_published
from ..errors import CheckpointError
from ..runtime.atomic_files import write_atomically
from ..runtime.work_dir import check_writable


def export(
    checkpoint: str | Path,
    out: str | Path,
    to: str,
    part: str | None = None,
    keys: bool = False,
    dry_run: bool = False,
) -> None:
    """Export the encoder of a checkpoint, or convert a full checkpoint, and print a report.

    Args:
        checkpoint: a checkpoint of tools/train.py, a published SlotCon checkpoint, an exported file
            or torchvision's weights. No code in it is run.
        out: the file to write; its suffix selects the container.
        to: "openmmlab", "torchvision", "timm" or "detectron2" for an encoder; "slotcon" or
            "published" for a full checkpoint.
        part: "teacher" (the default, which the paper transfers) or "student"; for encoders only.
        keys: list every tensor in the report.
        dry_run: print the report and write nothing.

    Raises:
        ConfigError: `out` cannot be written.
        CheckpointError: the checkpoint cannot be read or does not fit `to`.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    check_writable(out, "OUT", inputs=[checkpoint])
    if to in ("slotcon", "published"):
        data, report = _convert(checkpoint, out, to, part, keys)
    else:
        formats.check_format(to, out.suffix)
        encoder = read_encoder(checkpoint, part)
        data, old_names = formats.encoder_file(encoder, to, out.suffix)
        report = formats.report_encoder(encoder, old_names, keys)
        report += f"\nload it with:  {formats.usage(encoder, to, out)}"
        if note := formats.dilation_note(encoder, to):
            report += f"\n{note}"
    print(report)
    if dry_run:
        print(f"dry run: {out} ({len(data):,} bytes) was not written")
        return
    write_atomically(data, out)
    print(f"written:       {out} ({len(data):,} bytes)")


def _convert(
    checkpoint: Path, out: Path, to: str, part: str | None, keys: bool
) -> tuple[bytes, str]:
    """A full checkpoint in the other format: the file's bytes and the report."""
    if out.suffix != ".pth":
        raise CheckpointError(
            f"--to {to} writes a full checkpoint, which must be a .pth file, not "
            f"{out.suffix or 'a file without a suffix'}."
        )
    if part is not None:
        raise CheckpointError(f"--part cannot be used with --to {to}, which converts all parts.")
    convert = to_ours if to == "slotcon" else to_published
    converted = convert(read_file(checkpoint), str(checkpoint))
    return pth_bytes(converted.content), formats.report_checkpoint(checkpoint, converted, keys)
