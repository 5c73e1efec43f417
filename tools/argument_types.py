"""Types and options of command lines that several tools share; nothing heavy is imported."""

import argparse
import math


def positive(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {least} on")
    return int(text)


def positive_real(text: str) -> float:
    """A finite number above 0."""
    value = _real(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number above 0")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _real(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number from 0 to 1")
    return value


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add --cfg-options; given several times, all of them are used."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="replace entries of the config, e.g. train_cfg.max_epochs=100; "
        "+KEY=VALUE adds a new one",
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add --launcher, and --local_rank, which torch.distributed.launch passes and nobody reads."""
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="how the processes were started; the scripts in tools/ set it",
    )
    parser.add_argument("--local_rank", "--local-rank", action=_Ignore, help=argparse.SUPPRESS)


class _Ignore(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, **options):
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, *arguments) -> None:
        pass
