"""A few of the runs of benchmarks/fuzz.py: damaged and wrong inputs of the tools."""

import sys

import pytest

from benchmarks.fuzz import FAILURES, KINDS
from benchmarks.processes import ROOT, start


@pytest.mark.slow
def test_wrong_inputs_give_one_message(tmp_path):
    for name in ("mmdet", "mmseg", "pydantic", "jinja2", "matplotlib"):
        pytest.importorskip(name)
    program = ROOT / "benchmarks" / "fuzz.py"
    # Other inputs than those of the published count.
    process = start(
        sys.executable, program, "--runs", 8, "--seed", 7, "--folder", tmp_path / "fuzz"
    )
    output, _ = process.communicate(timeout=500)
    row = output[output.rindex("all") :].split()[1:]
    counts = [int(number) for number in row[: 3 + len(FAILURES)]]
    assert counts[0] == 8 * len(KINDS), output
    assert counts[0] == counts[1] + counts[2], output
    assert counts[1] and counts[2] and process.returncode == 0, output
