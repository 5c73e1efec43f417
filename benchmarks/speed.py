"""How fast is it, how much memory and traffic does it take: beside a plain version, in one table.

Every row is measured in the same run as its plain baseline, which is written straight from the
method in tests/ (PIL pipeline, RoIAlign on K channels, image by image, all slots exchanged,
updates tensor by tensor). The two take turns, so that a busy machine slows both; only the loops of
*all* run one after the other.

  data      images a second: a worker's part, a device's part
  step      forward and backward without backbone, projector and slot predictor; teacher, optimizer
  memory    peak of that part
  exchange  bytes that one of two processes sends in a step (gradients aside: they are the same)
  all       the training loop with the real loader, its share of waiting for data, on a GPU its
            peak memory; without a GPU, of a small network
  largest   on a GPU: the largest batch that fits
"""

import argparse
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

EXAMPLES = """
examples:
  everything on this machine's processor:     python benchmarks/speed.py
  everything on a GPU, within ten minutes:    python benchmarks/speed.py --device cuda
  one table, other sizes:                     python benchmarks/speed.py step -K 1024 --batch 16
  keep the figures:                           python benchmarks/speed.py --json speed.json
  growth with K, batch and processes:         python benchmarks/speed.py memory --growth growth.png
  does it work at all, in seconds:            python benchmarks/speed.py --quick

reading it: ± is half the distance between the quartiles; the ratio says how many times better ours
is, and for times it is the median of the rounds' ratios. Ratios of times hold to about a tenth; let
the machine rest for more. What fails is a row too, and the exit status is 1 then.
"""
TABLES = ("data", "step", "memory", "exchange", "all", "largest")
GPU_ORDER = ("all", *TABLES[:4], "largest")  # what is wanted most first


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"{', '.join(TABLES)} (default: all that the device has)",
    )
    parser.add_argument(
        "-K",
        "--prototypes",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of prototypes (default: 256 2048)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        help="images a step (default: 64 on a CPU, as each of the paper's 8 processes; 512 on a "
        "GPU); exchange takes 16 at most, and the loop of a CPU always 16",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads",
        type=int,
        help="torch's threads (default: torch's choice); with 1, times are the processor's",
    )
    parser.add_argument("--workers", type=int, help="the loop's loader workers (default: cores)")
    parser.add_argument("--rounds", type=int, help="timed rounds (default: 7)")
    parser.add_argument(
        "--no-compile", action="store_true", help="the loop of a GPU without torch.compile"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only to see it work")
    parser.add_argument("--json", metavar="PATH", help="write everything measured here")
    parser.add_argument("--growth", metavar="PNG", help="measure the growth too, and draw it here")
    args = parser.parse_args(argv)
    for name in args.tables:
        if name not in TABLES:
            parser.error(f"there is no table {name!r}, but {', '.join(TABLES)}")
        if name == "largest" and args.device == "cpu":
            parser.error("the largest batch is that of a GPU: --device cuda")
    for name in ("batch", "rounds", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}, expected 1 or more")
    if args.prototypes and min(args.prototypes) < 2:
        parser.error(f"-K is {min(args.prototypes)}, expected at least 2 prototypes")
    return args


def settle(args: argparse.Namespace):
    """How much is measured, of the options and the device."""
    from benchmarks.speed_tables import Settings
    from slotcon_plugin.runtime.launch import cores_each

    settings = Settings(device=args.device, workers=cores_each(), quick=args.quick)
    settings.compiled = not args.no_compile
    if args.device == "cuda":
        # At 512 images: two minutes to compile, 0.3 s a step of ours and 1 s of the plain loop
        # make four minutes; the other tables take three. 64 and 16 steps that count, for 16 cores.
        settings.batch = settings.loop_batch = 512
        settings.block, settings.loop_blocks, settings.plain_blocks = 4, 16, 4
    if args.quick:
        settings.num_prototypes, settings.batch, settings.rounds = (8, 16), 2, 2
        settings.loop_batch, settings.workers = 4, 0
        settings.block = settings.loop_blocks = settings.plain_blocks = 1
    if args.prototypes:
        settings.num_prototypes = tuple(args.prototypes)
    if args.batch:
        settings.batch = args.batch
        if args.device == "cuda" and not args.quick:
            settings.loop_batch = args.batch
    if args.rounds:
        settings.rounds = args.rounds
    if args.workers is not None:
        settings.workers = args.workers
    return settings


def run(args: argparse.Namespace) -> int:
    """Measure and print. Returns the number of tables that failed."""
    import torch

    import slotcon_plugin  # noqa: F401  (registers the parts)

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda, but torch sees no GPU here; leave the option out")
    if args.threads:
        torch.set_num_threads(args.threads)
    from benchmarks import speed_tables
    from benchmarks.machine_report import Row, machine, table, write_json

    torch.backends.cudnn.benchmark = True  # both sides
    settings = settle(args)
    facts = machine(args.device)

    def say(line: str) -> None:
        print(f"[speed] {line}", file=sys.stderr, flush=True)

    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"batch {settings.batch}, {settings.rounds} rounds, {args.device}", flush=True)
    names = args.tables or (GPU_ORDER if args.device == "cuda" else TABLES[:-1])
    if args.quick and not args.tables:
        names = [name for name in names if name != "largest"]
    record, rows, failed = vars(settings), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            measured = []
            try:
                for row in speed_tables.TABLES[name](settings, Path(folder), say):
                    measured.append(row)
                    if args.json:
                        write_json(args.json, facts, record, rows + measured)
            except Exception as error:  # out of memory, say: the other tables are measured still
                traceback.print_exc()
                measured.append(Row(name, f"{type(error).__name__}", "s", None, None))
            failed += any(row.ours is None for row in measured)
            print(f"\n{table(measured)}", flush=True)
            rows += measured
            if args.json:
                write_json(args.json, facts, record, rows)
    if args.growth:
        from benchmarks.growth import draw_growth

        curves = speed_tables.growth(settings, say)
        title = f"{facts.get('gpu', facts['processor'])}, torch {facts['torch']}"
        draw_growth(curves, title).savefig(args.growth, dpi=70)
        say(f"drew {args.growth}")
        if args.json:
            write_json(args.json, facts, {**record, "growth": curves}, rows)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Run. Returns the exit status."""
    args = parse_args(argv)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    warnings.filterwarnings("ignore")  # libraries' deprecations; nothing about the figures
    try:
        return int(run(args) > 0)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
