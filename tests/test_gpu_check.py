"""The program for a lent GPU, at toy size on the CPU, so that its parts keep working."""

import json
import os
import subprocess

import pytest
from photographs import photographs

from benchmarks.processes import ROOT

PROGRAM = ROOT / "benchmarks" / "gpu_check.sh"


@pytest.mark.slow
def test_every_part_runs_and_is_not_run_again(tmp_path):
    (tmp_path / "images").mkdir()
    images = photographs()
    for i in range(32):
        images[i % len(images)].save(tmp_path / "images" / f"{i}.jpg")
    environment = {**os.environ, "IMAGES": str(tmp_path / "images"), "OMP_NUM_THREADS": "1"}
    out, parts = tmp_path / "out", ["speed", "bf16", "proof"]
    command = ["bash", PROGRAM, "--quick", "--out", out, *parts]
    for shown in ("json, ", "done, "):
        run = subprocess.run(command, env=environment, text=True, capture_output=True)
        logs = "\n".join(log.read_text()[-2000:] for log in out.glob("*.log"))
        assert run.returncode == 0, run.stdout + run.stderr + logs
        assert run.stdout.count(shown) == len(parts)
    found = {part: json.loads((out / f"{part}.json").read_text()) for part in parts}
    assert found["bf16"]["images_per_second"] > 0
    assert [one["network"].count("untrained") for one in found["proof"]["networks"]] == [0, 1]


def test_a_failing_part_leaves_its_log_and_no_result(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "IMAGES"}
    command = ["bash", PROGRAM, "--quick", "--out", tmp_path, "proof"]
    run = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert run.returncode == 1 and "proof: failed" in run.stderr
    assert "proof needs IMAGES" in (tmp_path / "proof.log").read_text()
    assert not list(tmp_path.glob("*.json"))
    wrong = subprocess.run(["bash", PROGRAM, "speeed"], text=True, capture_output=True)
    assert wrong.returncode == 2 and "speeed is no part" in wrong.stderr
