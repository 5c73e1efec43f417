"""Exports encoders for other libraries and converts full checkpoints."""

import shlex
from pathlib import Path

from ..checkpoints import export_formats as formats
from ..checkpoints import read_encoder
from ..checkpoints.containers import pth_bytes, read_file
from ..checkpoints.encoder import ALL, Encoder
from ..checkpoints.model_folder import CARD, model_card, timm_files
from ..checkpoints.named_networks import last_of_work_dir
from ..checkpoints.onnx_file import TOLERANCE, onnx_model
from ..checkpoints.published import to_ours, to_published
from ..errors import CheckpointError, ConfigError
from ..evaluation.teacher_folder import teacher_files
from ..runtime.atomic_files import write_atomically, write_folder
from ..runtime.launch import announce
from ..runtime.work_dir import check_writable

FORMATS = (*formats.LIBRARIES, "hub", "onnx", "slotcon", "published", "zoo")
LICENSE = "apache-2.0"
WHOLE = dict.fromkeys(("slotcon", "published"), "converts all")
WHOLE["zoo"] = "writes the whole teacher"


def export(
    checkpoint: str | Path,
    out: str | Path,
    to: str,
    part: str | None = None,
    keys: bool = False,
    dry_run: bool = False,
    parts: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> None:
    """Export the encoder of a checkpoint, or convert a full checkpoint, and print a report.

    Args:
        checkpoint: a checkpoint of slotcon train, a published SlotCon checkpoint, an exported file
            or torchvision's weights. No code in it is run.
        out: the file to write; its suffix selects the container. Without a suffix, "timm" writes a
            folder that `timm.create_model("local-dir:OUT", pretrained=True)` loads; "hub" and "zoo"
            always write a folder.
        to: "openmmlab", "torchvision", "timm" or "detectron2" for an encoder; "hub" for timm's
            folder with a model card for the Hugging Face Hub; "onnx"; "slotcon" or "published" for
            a full checkpoint; "zoo" for a folder with the whole teacher, so that `load` gives its
            groups, too.
        part: "teacher" (the default, which the paper transfers) or "student"; for encoders only.
        keys: list every tensor in the report.
        dry_run: print the report and write nothing.
        parts: "all" (the default): with the decoder of a pretraining that had one (DeCon), where
            the format has a place for it; "encoder": without it.
        license: for "hub", the Hub's identifier of the weights' license; by default "apache-2.0".
        overwrite: replace `out` if it is a file; otherwise this is an error. Folders are not
            replaced.

    Raises:
        ConfigError: `out` cannot be written, an option is wrong, or a library is missing.
        CheckpointError: the checkpoint cannot be read or does not fit `to`; or the exported model
            computes something else than the encoder.
    """
    checkpoint, out = Path(last_of_work_dir(checkpoint, announce)), Path(out)
    if to not in FORMATS:
        raise ConfigError(f"--to {to}: expected one of {', '.join(FORMATS)}.")
    if license is not None and to != "hub":
        raise ConfigError(f"--license is for --to hub, which writes a model card, not for {to}.")
    is_folder = to in ("hub", "zoo") or (to == "timm" and not out.suffix)
    replace = is_folder or overwrite
    check_writable(out, "OUT", folder=is_folder, inputs=[checkpoint], overwrite=replace)
    if is_folder and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"OUT {out} is a folder that is not empty. Name a new one.")
    if to in ("slotcon", "published"):
        _refuse(to, ("--part", part), ("--parts", parts))
        data, report = _convert(checkpoint, out, to, keys)
    elif to == "zoo":
        _refuse(to, ("--part", part), ("--parts", parts), ("--keys", keys))
        data, report = teacher_files(read_file(checkpoint), str(checkpoint), out)
    elif is_folder:
        data, report = _folder(checkpoint, out, to, part, parts, keys, license or LICENSE)
    elif to == "onnx":
        data, report = _onnx(checkpoint, out, part, parts, keys)
    else:
        formats.check_format(to, out.suffix)
        encoder = read_encoder(checkpoint, part, parts=parts or ALL)
        data, old_names = formats.encoder_file(encoder, to, out.suffix)
        report = formats.report_encoder(encoder, old_names, keys)
        report += f"\nload it with:  {formats.usage(encoder, to, out)}"
        for note in (formats.decoder_note(encoder, to), formats.dilation_note(encoder, to)):
            report += f"\n{note}" * bool(note)
    print(report)
    size = sum(map(len, data.values())) if is_folder else len(data)
    if dry_run:
        print(f"dry run: {out} ({size:,} bytes) was not written")
        return
    if is_folder:
        write_folder(data, out)
    else:
        write_atomically(data, out)
    print(f"written:       {out} ({size:,} bytes)")


def _read_alone(
    checkpoint: Path, to: str, part: str | None, parts: str | None
) -> tuple[Encoder, list[str]]:
    """The encoder without its decoder, and a line for the report if it has one."""
    encoder = read_encoder(checkpoint, part, parts=parts or ALL)
    note = formats.decoder_note(encoder, to)
    meta = {key: value for key, value in encoder.meta.items() if key != "decoder"}
    return encoder._replace(decoder=None, meta=meta), [note] * bool(note)


def _folder(
    checkpoint: Path,
    out: Path,
    to: str,
    part: str | None,
    parts: str | None,
    keys: bool,
    license: str,
) -> tuple[dict[str, bytes], str]:
    """The files of a folder for timm or for the Hugging Face Hub, and the report."""
    encoder, notes = _read_alone(checkpoint, "timm", part, parts)
    card = {CARD: model_card(encoder, out.name, license)} if to == "hub" else {}
    files = timm_files(encoder) | card
    lines = [
        formats.report_encoder(encoder, encoder.old_names, keys),
        *notes,
        f"files:         {', '.join(files)}",
        f"load it with:  timm.create_model('local-dir:{out}', pretrained=True)",
    ]
    if card:
        lines += [
            f"license:       {license}; --license names another one",
            f"upload it with: hf upload USER/NAME {shlex.quote(str(out))}",
        ]
    return files, "\n".join(lines)


def _onnx(
    checkpoint: Path, out: Path, part: str | None, parts: str | None, keys: bool
) -> tuple[bytes, str]:
    """An ONNX file and the report."""
    if out.suffix != ".onnx":
        raise CheckpointError(f"--to onnx writes a .onnx file, not {out.suffix or out.name}.")
    encoder, notes = _read_alone(checkpoint, "onnx", part, parts)
    model = onnx_model(encoder)
    lines = [
        formats.report_encoder(encoder, encoder.old_names, keys),
        *notes,
        f"onnx:          images (batch, 3, height, width), normalized, {model.images} -> "
        "map (batch, channels, rows, columns), pooled (batch, channels)",
        f"compared:      onnxruntime and torch differ by {model.error:.1e} of the largest value; "
        f"{TOLERANCE:.0e} is allowed",
        f"load it with:  onnxruntime.InferenceSession('{out}').run(None, {{'images': images}})",
    ]
    return model.data, "\n".join(lines)


def _refuse(to: str, *options: tuple[str, object]) -> None:
    if given := [name for name, value in options if value]:
        raise CheckpointError(f"{given[0]} cannot be used with --to {to}, which {WHOLE[to]}.")


def _convert(checkpoint: Path, out: Path, to: str, keys: bool) -> tuple[bytes, str]:
    """A full checkpoint in the other format: the file's bytes and the report."""
    if out.suffix != ".pth":
        raise CheckpointError(
            f"--to {to} writes a full checkpoint, which must be a .pth file, not "
            f"{out.suffix or 'a file without a suffix'}."
        )
    convert = to_ours if to == "slotcon" else to_published
    converted = convert(read_file(checkpoint), str(checkpoint))
    return pth_bytes(converted.content), formats.report_checkpoint(checkpoint, converted, keys)
