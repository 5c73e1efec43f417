"""Repeats a step whose loss or gradient was not finite, as `LossGuardHook` kept it."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from ..checkpoints.repeat_step import StepResult, repeat_step
from ..errors import CheckpointError, ConfigError, SlotConError
from ..hooks.step_recorder import KEYS
from ..runtime.explain_errors import add_note
from ..runtime.safe_loading import load_checkpoint_safely

COUNTS = ("step", "epoch", "world_size", "accumulation")
PRECISIONS = dict(off="float32", fp16="float16 mixed", bf16="bfloat16 mixed", float64="float64")
META: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(COUNTS, lambda value: type(value) is int and 0 < value < 2**31),
    "threads": lambda value: type(value) is int and 0 < value <= 1024,  # or OpenMP ends the process
    **dict.fromkeys(
        ("deterministic", "cudnn_benchmark", "sync_bn", "training"),
        lambda value: isinstance(value, bool),
    ),
    "device": ("cpu", "cuda").__contains__,
    "precision": ("off", "fp16", "bf16").__contains__,
    "loss_scale": lambda value: isinstance(value, float) and value > 0,
    "reason": lambda value: isinstance(value, str),
}


def replay(
    file: str | Path, device: str | None = None, amp: str | None = None, double: bool = False
) -> list[StepResult]:
    """Repeat a kept step and print its losses, its gradients and the first module that failed.

    On the same kind of device, with the same versions and in the same precision, the losses are
    bitwise those of the training. A step of several processes is repeated by as many, which need
    the files of all of them in one folder.

    Args:
        file: `nonfinite_step/rank*.pth` in a work dir.
        device: "cpu" or "cuda"; None: the training's, or the CPU without a GPU.
        amp: precision, "fp16", "bf16" or "off"; None: the training's.
        double: compute in float64, with `amp` "off".

    Returns the result of each process.
    """
    file = Path(file)
    first = read_step(file)
    if double and amp not in (None, "off"):
        raise ConfigError(f"--double computes in float64; omit --amp {amp}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a GPU, and torch sees none. Use --device cpu.")
    meta = first["meta"]
    device = device or (meta["device"] if torch.cuda.is_available() else "cpu")
    precision = "float64" if double else amp or meta["precision"]
    if precision == "fp16" and device == "cpu":
        raise ConfigError("float16 is not computed on a CPU: add --amp off or --amp bf16.")
    files = [file]
    if meta["world_size"] > 1:
        names = (f"rank{rank}.pth" for rank in range(meta["world_size"]))
        files = [_same_step(file.with_name(name), meta) for name in names]
    results = _run([str(path) for path in files], device, precision)
    where = f"step {meta['step']} (epoch {meta['epoch']}) on {device}, {PRECISIONS[precision]}"
    print(f"{where}: {meta['reason']} in the training")
    for rank, result in enumerate(results):
        if len(results) > 1:
            print(f"rank {rank}:")
        print(describe(result), flush=True)
    return results


def _same_step(path: Path, meta: dict) -> Path:
    if not path.is_file() or read_step(path)["meta"]["step"] != meta["step"]:
        raise CheckpointError(
            f"Step {meta['step']} was one of {meta['world_size']} processes, and {path.parent} has "
            f"no {path.name} of it. Copy the files of all machines into one folder."
        )
    return path


def read_step(path: Path) -> dict:
    """The content of a file of a kept step; a CheckpointError if it is another file."""
    content = load_checkpoint_safely(path)
    expected = dict.fromkeys(KEYS, dict) | {"scope": str}
    wrong = [n for n, kind in expected.items() if not isinstance(content.get(n), kind)]
    meta = content["meta"] if "meta" not in wrong else {}
    wrong = wrong or [f"meta.{n}" for n, valid in META.items() if not valid(meta.get(n))]
    if wrong:
        raise CheckpointError(
            f"{path} is not a kept step: {', '.join(wrong)} missing or damaged. Give the file that "
            "LossGuardHook wrote into WORK_DIR/nonfinite_step."
        )
    return content


def describe(result: StepResult) -> str:
    """The table that is printed for one process."""
    lines = []
    for name, value in result.losses.items():
        recorded = result.recorded.get(name, math.nan)
        other = "bitwise as" if result.same[name] else f"{recorded:g}"
        lines.append(f"  {name + ':':24}{value:.9g}  ({other} in the training)")
    for name, value in result.gradient_norms.items():
        lines.append(f"  {'gradient of ' + name + ':':24}{value:.6g}")
    lines.append(f"  {'first not finite:':24}{result.first or 'nothing'}")
    return "\n".join(lines)


def _run(files: list[str], device: str, precision: str) -> list[StepResult]:
    if len(files) == 1:
        return [_repeat(files[0], device, precision)]
    with tempfile.TemporaryDirectory(prefix="slotcon_replay_") as folder:
        arguments = (files, device, precision, folder)
        method = torch.multiprocessing.get_all_start_methods()[-1]  # forkserver, where there is one
        torch.multiprocessing.start_processes(_run_one, arguments, len(files), start_method=method)
        paths = [Path(folder, f"{rank}.pth") for rank in range(len(files))]
        return [StepResult(**load_checkpoint_safely(path)) for path in paths]


def _run_one(rank: int, files: list[str], device: str, precision: str, folder: str) -> None:
    enough = device == "cuda" and torch.cuda.device_count() >= len(files)
    if device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    backend, meeting = "nccl" if enough else "gloo", f"file://{folder}/rendezvous"
    dist.init_process_group(backend, meeting, rank=rank, world_size=len(files))
    torch.save(_repeat(files[rank], device, precision)._asdict(), Path(folder, f"{rank}.pth"))
    dist.destroy_process_group()


def _repeat(file: str, device: str, precision: str) -> StepResult:
    try:
        return repeat_step(read_step(Path(file)), file, device, precision)
    except SlotConError:
        raise
    except Exception as error:
        if precision == "float64" and isinstance(error, RuntimeError):
            raise ConfigError(f"This model does not compute in float64 ({error}).") from error
        add_note(error, f"in the step of {file}")
        raise
