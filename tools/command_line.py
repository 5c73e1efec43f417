"""What the tools share: parsers, types of options, and the call of the API. It imports no torch."""

import argparse
import difflib
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 10):  # noqa: UP036 - the user's own Python may be any
    sys.exit(f"error: Python >= 3.10 is needed, {sys.executable} is {sys.version.split()[0]}")

BELOW = ", below 2**32"  # as NumPy's seeds; larger numbers are errors deep in torch
PROGRAM = None  # how the program was started, if not by its file: "slotcon train"
TOOLS = Path(__file__).parent
CLONE = TOOLS.resolve().parent

if (CLONE / "slotcon_plugin").is_dir():  # a clone works without installation too
    sys.path.insert(0, str(CLONE))


def new_parser(description: str, epilog: str | None = None, **options) -> argparse.ArgumentParser:
    """A parser whose help keeps the line breaks of both texts."""
    kind = argparse.RawDescriptionHelpFormatter
    options |= dict(prog=PROGRAM) if PROGRAM else {}
    parser = _Parser(description=description, epilog=epilog, formatter_class=kind, **options)
    add_traceback(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors say what to do about words in a wrong place."""

    def error(self, message: str) -> NoReturn:
        kind, _, words = message.partition(": ")
        if kind == "unrecognized arguments" and words.startswith("-"):
            found = difflib.get_close_matches(words.split()[0], self._option_string_actions, 1)
            message += f". Did you mean {found[0]}?" if found else ". --help lists the options."
        elif kind == "unrecognized arguments":
            message += ". A value follows the name of its option, as --data DIR; it is one word, as"
            message += " 3h, or stands in quotes."
        elif kind == "the following arguments are required" and not words.startswith("-"):
            several = [a for a in self._actions if a.option_strings and a.nargs == "+"]
            if name := next((n for a in several for n in a.option_strings if n in sys.argv), None):
                message += f". Write it before {name}, which takes all the words that follow it."
        super().error(message)


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
    options = dict(vars(args))
    traceback = options.pop("traceback", False)
    try:
        from slotcon_plugin.runtime.run_command import run_command
    except ModuleNotFoundError as error:  # this Python lacks what the package needs
        if traceback:
            raise
        sys.exit(f"error: {error}")

    def run() -> object:  # an import can fail too
        return getattr(import_module(f"slotcon_plugin.apis.{name}"), name)(**options)

    return run_command(run, launcher, stopped, traceback)


def _number(read: Callable, accepts: Callable[[float], bool], expected: str) -> Callable:
    """A type for argparse: what `read` makes of the text, if it is acceptable."""

    def convert(text: str) -> float:
        with suppress(ValueError):
            if accepts(value := read(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r}, expected {expected}")

    return convert


def _digits(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


positive = _number(_digits, lambda value: 1 <= value < 2**32, "a whole number from 1 on" + BELOW)
natural = _number(_digits, lambda value: 0 <= value < 2**32, "a whole number from 0 on" + BELOW)
positive_real = _number(float, lambda value: 0 < value < math.inf, "a number above 0")
share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def level(text: str) -> str | int:
    """The type of --level: a decoder's level, or the encoder's."""
    return text if text == "encoder" else natural(text)


def add_level(parser: argparse.ArgumentParser, default: str) -> None:
    """`--level`, of a pretraining with a decoder."""
    text = (
        "of a pretraining with a decoder: encoder, or a level of the decoder from 0, the finest, "
    )
    parser.add_argument(
        "--level", type=level, metavar="LEVEL", help=f"{text}on (default: {default})"
    )


def add_number(parser, name: str, kind, default: float, text: str) -> None:
    """Add an option of one of these types, with its default in the help."""
    text += " (%(default)s)"
    parser.add_argument(name, type=kind, default=default, metavar="N", help=text)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options that `slotcon train` and `slotcon plan` share."""
    text = "images of a pretraining: a source of docs/images.md, such as a folder, or several; of "
    text += "fcn_own and mask_rcnn_own: the folder of images and labels (default: the config's)"
    parser.add_argument("--data", nargs="+", metavar="PATH", help=text)
    text = "length of the training in epochs (default: the config's)"
    parser.add_argument("--epochs", type=positive, metavar="N", help=text)
    text = "length of a pretraining: 45min, 3h, 2days, 200epochs, or paper (default: the config's)"
    parser.add_argument("--budget", metavar="LENGTH", help=text)
    text = (
        "weights of the backbone: a file of slotcon export, a checkpoint, a work dir or zoo:NAME; "
    )
    text += "'supervised': torchvision's ImageNet weights; 'timm': timm's own, of a TimmEncoder; "
    text += "'none': random (default: the config's)"
    parser.add_argument("--backbone", metavar="FILE", help=text)
    text = "mixed precision (default: the config's on a GPU, float32 on a CPU); on a CPU, fp16 is "
    text += "refused, and bf16 is slow without AVX-512"
    parser.add_argument("--amp", choices=("fp16", "bf16", "off"), help=text)
    text = "scale the learning rate with the global batch (default: as in the config; the "
    text += "pretraining configs do)"
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--auto-scale-lr", action=switch, default=None, help=text)
    text = "torch.compile encoder and projector"
    parser.add_argument("--compile", action="store_true", help=text)


def add_loading(parser: argparse.ArgumentParser, quiet: str = "no progress bars") -> None:
    """Add --workers, --device and --quiet, whose help is `quiet`."""
    add_number(parser, "--workers", natural, 0, "loader processes, at most one a core")
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--quiet", action="store_true", help=quiet)


def add_overwrite(parser: argparse.ArgumentParser, text: str = "replace the file --out") -> None:
    """Add --overwrite, without which nothing is replaced."""
    text += " (default: an error if it is there)"
    parser.add_argument("--overwrite", action="store_true", help=text)


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
    text = "how the processes were started; --gpus and the scripts in tools/ set it"
    launchers = ("none", "pytorch", "slurm", "mpi")
    parser.add_argument("--launcher", choices=launchers, default="none", help=text)
    parser.add_argument("--local_rank", "--local-rank", action=_Ignore, help=argparse.SUPPRESS)


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add --gpus, for `start_on_gpus`."""
    text = "start this many processes on this machine, one for each GPU; without a GPU on the CPU"
    parser.add_argument("--gpus", type=positive, metavar="N", help=text)


def start_on_gpus(args: argparse.Namespace) -> None:
    """Replace this program by dist_train.sh with all other options if --gpus is given."""
    gpus = vars(args).pop("gpus")
    if gpus is None:
        return
    if args.launcher != "none":
        sys.exit(f"error: --gpus starts the processes; --launcher {args.launcher} has started them")
    only = argparse.ArgumentParser(add_help=False)
    only.add_argument("--gpus")
    words = ["bash", str(TOOLS / "dist_train.sh"), "--gpus", str(gpus)]
    words += only.parse_known_args()[1]
    os.execvpe(words[0], words, {"PYTHON": sys.executable, **os.environ})


class _Ignore(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, **options):
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, *arguments) -> None:
        pass
