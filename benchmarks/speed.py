"""Time, memory and traffic of the package beside plain torch, in one table.

Every row is measured in the same run as its plain baseline: a PIL pipeline, RoIAlign on all score
maps, dense attention, all slots exchanged, parameters updated one by one. Both sides alternate, so
that a busy machine slows both; only the training loops run one after the other.

  data      images per second: the part in a loader's worker, the part on the device
  step      forward and backward pass without backbone, projector and slot predictor; teacher,
            optimizer
  memory    peak memory of the same
  exchange  bytes that one of two processes sends in a step, without the equal gradients
  decoder   the finest level of a decoder, with its projectors: time, peak memory, bytes sent
  encoders  a step with timm's ViT-S and ConvNeXt-T, without data
  methods   the training loop beside those of DenseCL, MoCo v2 and BYOL as mmpretrain ships them,
            with their own pipelines ("plain"); in brackets SlotCon's passes through the encoder
  all       the training loop with its data loader, the fraction of time spent waiting for data,
            on a GPU its peak memory; on a CPU with a small network
  largest   on a GPU: the largest batch size that fits
"""

import argparse
import os
import sys
import tempfile
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

EXAMPLES = """
examples:
  everything on the CPU:                    python benchmarks/speed.py
  on a GPU, in ten minutes:                 python benchmarks/speed.py --device cuda
  one table, other sizes:                   python benchmarks/speed.py step -K 1024 --batch 16
  write the measurements to a file:         python benchmarks/speed.py --json speed.json
  growth with K, batch size and processes:  python benchmarks/speed.py memory --growth growth.png
  a test in seconds:                        python benchmarks/speed.py --quick

how to read it: ± is half the distance between the quartiles. The ratio says how many times better
ours is; for times it is the median of the rounds' ratios, with an error of about a tenth on a busy
machine. A measurement that fails has a row too, and the exit status is then 1.
"""
TABLES = ("data", "step", "memory", "exchange", "decoder", "encoders", "methods", "all", "largest")
GPU_ORDER = ("all", *TABLES[:5], "largest")  # the most important first, in ten minutes

DEFAULT = "all for the device; on a GPU without encoders and methods"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ", ".join(TABLES)
    add("tables", nargs="*", metavar="TABLE", help=f"{names} (default: {DEFAULT})")
    sizes = dict(type=int, nargs="+", metavar="N")
    add("-K", "--prototypes", **sizes, help="numbers of prototypes (default: 256 2048)")
    add(
        "--batch",
        type=int,
        help="images in a step (default: 64 on a CPU, as on each of the paper's 8 GPUs; 512 on a "
        "GPU); at most 16 for exchange, always 16 for the loop on a CPU",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--threads", type=int, help="torch's threads; with 1, CPU time is measured, not wall time")
    add("--workers", type=int, help="worker processes of the loop's data loader (default: cores)")
    add("--rounds", type=int, help="timed rounds (default: 7)")
    add("--no-compile", action="store_true", help="the loop on a GPU without torch.compile")
    add("--quick", action="store_true", help="tiny sizes, as a test")
    add("--json", metavar="PATH", help="write all measurements to this file")
    add("--growth", metavar="PNG", help="measure the growth too, and draw it to this file")
    args = parser.parse_args(argv)
    for name in args.tables:
        if name not in TABLES:
            parser.error(f"unknown table {name!r}, expected {names}")
        if name == "largest" and args.device == "cpu":
            parser.error("the largest batch size is measured on a GPU only: --device cuda")
    for name in ("batch", "rounds", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}, expected 1 or more")
    if args.prototypes and min(args.prototypes) < 2:
        parser.error(f"-K is {min(args.prototypes)}, expected at least 2 prototypes")
    return args


def choose_settings(args: argparse.Namespace):
    """The `Settings` for the options and the device."""
    from benchmarks.speed_tables import Settings
    from slotcon_plugin.runtime.launch import cores_each

    settings = Settings(device=args.device, workers=cores_each(), quick=args.quick)
    settings.compiled = not args.no_compile
    if args.device == "cuda":
        # With 512 images: two minutes to compile; 64 timed steps of 0.3 s and 16 plain ones of 1 s,
        # after the warm-up of 16 workers. Four minutes; the other tables need three.
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
    """Measure and print. Returns the number of tables with a failure."""
    import torch
    from mmengine.logging import MMLogger

    import slotcon_plugin  # noqa: F401  (registers the parts)

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda, but torch finds no GPU; omit the option")
    if args.threads:
        torch.set_num_threads(args.threads)
    from benchmarks import speed_tables
    from benchmarks.speed_report import Row, machine, table, write_json

    MMLogger.get_instance("speed", log_level="ERROR")  # building models logs every parameter
    torch.backends.cudnn.benchmark = True  # for both sides
    settings = choose_settings(args)
    facts = machine(args.device)

    def report(line: str) -> None:
        print(f"[speed] {line}", file=sys.stderr, flush=True)

    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"batch size {settings.batch}, {settings.rounds} rounds, {args.device}", flush=True)
    names = args.tables or (GPU_ORDER if args.device == "cuda" else TABLES[:-1])
    if args.quick and not args.tables:
        names = [name for name in names if name != "largest"]
    if not args.tables and "methods" in names and find_spec("mmpretrain") is None:
        report("methods: left out; it needs pip install -e '.[onedl-baselines]'")
        names = [name for name in names if name != "methods"]
    record, rows, failed = vars(settings), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            measured = []
            try:
                for row in speed_tables.TABLES[name](settings, Path(folder), report):
                    measured.append(row)
                    if args.json:
                        write_json(args.json, facts, record, rows + measured)
            except Exception as error:  # e.g. out of memory: continue with the other tables
                traceback.print_exc()
                measured.append(Row(name, f"{type(error).__name__}", "s", None, None))
            failed += any(row.ours is None for row in measured)
            print(f"\n{table(measured)}", flush=True)
            rows += measured
            if args.json:
                write_json(args.json, facts, record, rows)
    if args.growth:
        from benchmarks.speed_growth import draw_growth, growth

        curves = growth(settings, report)
        title = f"{facts.get('gpu', facts['processor'])}, torch {facts['torch']}"
        draw_growth(curves, title).savefig(args.growth, dpi=90)
        report(f"drew {args.growth}")
        if args.json:
            write_json(args.json, facts, {**record, "growth": curves}, rows)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure. Returns the exit status."""
    args = parse_args(argv)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    warnings.filterwarnings("ignore")  # deprecations of libraries
    try:
        return int(run(args) > 0)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
