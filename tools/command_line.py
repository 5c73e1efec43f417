"""What the tools share: parsers, types of options, and the call of the API. It imports no torch."""

import argparse
import math
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too


def new_parser(description: str, epilog: str | None = None, **options) -> argparse.ArgumentParser:
    """A parser whose help keeps the line breaks of both texts."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=kind, **options
    )
    add_traceback(parser)
    return parser


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add --traceback, which `run_api` reads; to a sub-command too, so that its place is free."""
    text = "show the traceback of an error, as SLOTCON_TRACEBACK=1 does"
    hidden = argparse.SUPPRESS  # or a sub-command's default would replace the command's value
    parser.add_argument("--traceback", action="store_true", default=hidden, help=text)


def run_api(
    name: str, args: argparse.Namespace, launcher: str = "none", stopped: str = "stopped"
) -> int:
    """Call `slotcon_plugin.apis.NAME.NAME` with the options of a command line.

    Returns the exit status; see `run_command`.
    """
    from slotcon_plugin.runtime.run_command import run_command

    options = dict(vars(args))
    traceback = options.pop("traceback", False)

    def run() -> object:  # an import can fail too
        return getattr(import_module(f"slotcon_plugin.apis.{name}"), name)(**options)

    return run_command(run, launcher, stopped, traceback)


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


def add_number(parser, name: str, kind, default: float, text: str) -> None:
    """Add an option of one of these types, with its default in the help."""
    text += " (%(default)s)"
    parser.add_argument(name, type=kind, default=default, metavar="N", help=text)


def add_allow_missing(parser: argparse.ArgumentParser) -> None:
    """Add --allow-missing, which may be given several times."""
    text = "load weights although tensors of these names are missing, left over or of another "
    text += "shape, e.g. 'decode_head.conv_seg.*'; each is listed (default: an error)"
    parser.add_argument("--allow-missing", action="append", metavar="PATTERN", help=text)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add --cfg-options; given several times, all of them are used."""
    text = "replace entries of the config, e.g. train_cfg.max_epochs=100; +KEY=VALUE adds a new one"
    several = dict(nargs="+", action="extend", metavar="KEY=VALUE")
    parser.add_argument("--cfg-options", **several, help=text)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add --launcher, and --local_rank, which torch.distributed.launch passes and nobody reads."""
    text = "how the processes were started; the scripts in tools/ set it"
    launchers = ("none", "pytorch", "slurm", "mpi")
    parser.add_argument("--launcher", choices=launchers, default="none", help=text)
    parser.add_argument("--local_rank", "--local-rank", action=_Ignore, help=argparse.SUPPRESS)


class _Ignore(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, **options):
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, *arguments) -> None:
        pass
