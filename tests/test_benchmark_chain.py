"""A small benchmark from the first job to the table: pretraining, export, transfers, evaluation."""

import csv
import inspect
import json
import re
import shutil
import sys

import pytest
from tiny_training import finish, load_tool, wait_for

from benchmarks import recorded_runs
from benchmarks.processes import ROOT, environment, kill_all, start
from benchmarks.small_benchmark import TOOL, small_benchmark, write_benchmark, write_mini
from slotcon_plugin.apis.run_benchmark import run_benchmark
from slotcon_plugin.errors import ConfigError

pytest.importorskip("snakemake", reason="the benchmark needs snakemake (Python 3.11)")
pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")


def results(work_dir):
    """When each job's result file was written."""
    files = work_dir.glob("jobs/*/*/result.json")
    return {file.parent.parent.name: file.stat().st_mtime_ns for file in files}


def figures(work_dir):
    """The rows of tables.csv by the figure's name."""
    with (work_dir / "tables.csv").open() as file:
        return {row["figure"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_benchmark_that_is_killed_repaired_damaged_and_changed(
    tmp_path, monkeypatch, capfd, caplog
):
    root, work_dir = write_mini(tmp_path / "mini"), tmp_path / "out {of} it"
    content = small_benchmark(root, work_dir)
    del content["pretrainings"]["random"]
    broken = json.loads(json.dumps(content["transfers"]["voc"]))
    broken["overrides"]["train_dataloader.dataset.ann_file"] = "absent.txt"
    content["transfers"]["broken"] = dict(broken, column="city")
    content["transfers"]["stuff"] = dict(
        evaluate="unsupervised",
        images=str(root / "images"),
        labels=str(root / "voc21"),
        labels_format="voc",
        size=64,
    )
    file = write_benchmark(tmp_path / "tiny.yaml", content)
    # One of the transfers cannot be run, as the checks would say
    command = (TOOL, file, "--cores", "1", "--keep-going", "--skip-checks")

    # All processes are killed when the pretraining has its first checkpoint.
    process = start(*command)
    wait_for(lambda: list(work_dir.glob("jobs/pretrain.*/*/epoch_1.pth")), process)
    kill_all(process)
    process.stdout.close()
    process.wait()
    assert results(work_dir) == {}
    assert not (work_dir / "tables.md").exists()

    # It continues there; one job fails, the others' results are in the table.
    process = start(*command)
    output, _ = process.communicate(timeout=900)
    assert process.returncode != 0
    assert "begun 50 %" in output
    (log,) = work_dir.glob("jobs/pretrain.tiny.s0/*/log.txt")
    assert "after epoch 1" in log.read_text()
    first = results(work_dir)
    names = (
        "export.tiny.s0 transfer.tiny.s0.coco.s0 transfer.tiny.s0.voc.s0 evaluate.tiny.s0.stuff.s0"
    )
    assert first.keys() == {"pretrain.tiny.s0", *names.split()}
    found = figures(work_dir)
    assert "City" not in found
    for name in ("APᵇ", "APᵐ", "VOC", "Stuff mIoU"):
        assert float(found[name]["mean"]) >= 0
        assert found[name]["paper's protocol"] == "no"
    page = (work_dir / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4  # groups, curves of three trainings
    assert "NOT the paper&#39;s protocol" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # self-contained
    one = json.loads(next(work_dir.glob("jobs/pretrain.tiny.s0/*/result.json")).read_text())
    assert one["starts"] == 2
    assert one["seconds"] > 0 and one["peak_memory_mib"] > 100
    assert one["versions"]["torch"] and one["device"] and len(one["job"]["digest"]) == 64

    for name, value in environment().items():
        monkeypatch.setenv(name, value)

    def run_again(dry_run=False, **rest):
        """In this process, which has imported the libraries: the output."""
        options = ["--cores", "1", "--keep-going"]
        status = run_benchmark(file, dry_run=dry_run, snakemake_options=options, **rest)
        printed = capfd.readouterr()
        assert status == 0, printed.err
        return printed.out + printed.err

    # After the repair, only that job runs.
    content["transfers"]["broken"] = dict(content["transfers"]["voc"], column="city")
    write_benchmark(file, content)
    assert "6 jobs: 5 done, 1 to run" in run_again()
    second = results(work_dir)
    assert {name: second[name] for name in first} == first
    assert second.keys() - first.keys() == {"transfer.tiny.s0.broken.s0"}
    assert float(figures(work_dir)["City"]["mean"]) >= 0
    table = (work_dir / "tables.md").read_text()

    # Damaged: the job's commands are complete, only its result is written again.
    (damaged,) = work_dir.glob("jobs/transfer.tiny.s0.voc.s0/*/result.json")
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert "6 jobs: 5 done, 1 to run" in run_again()
    assert "result.json is damaged" in caplog.text
    assert (work_dir / "tables.md").read_text() == table
    second = results(work_dir)

    # After a change, the jobs that depend on it must run; without it, none.
    content["pretrainings"]["tiny"]["overrides"]["optim_wrapper.optimizer.lr"] = 0.5
    write_benchmark(file, content)
    assert "6 jobs: 0 done, 6 to run" in run_again(dry_run=True, skip_checks=True)
    content["pretrainings"]["tiny"]["overrides"]["optim_wrapper.optimizer.lr"] = 1.0
    write_benchmark(file, content)
    output = run_again(dry_run=True)
    assert "6 jobs: 6 done, 0 to run" in output
    assert "Nothing to be done" in output
    assert results(work_dir) == second

    # The record of its pretraining is for docs.
    recorded_runs.main([str(work_dir), str(tmp_path / "recorded")])
    record = (tmp_path / "recorded" / "README.md").read_text()
    assert "slotcon train " in record and " --work-dir WORK_DIR --seed 0" in record
    assert str(tmp_path) not in record and re.search(r"`sha256:[0-9a-f]{64}`", record)
    log = (tmp_path / "recorded" / "tiny.s0.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["loss"] > 0


def test_an_error_is_one_message(tmp_path):
    process = start(sys.executable, ROOT / "tools" / "benchmark.py", tmp_path / "absent.yaml")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: There is no config" in output
    assert "Traceback" not in output


def test_python_and_the_command_line_have_the_same_options(monkeypatch):
    args, rest = load_tool("benchmark", monkeypatch).parse_args(["b.yaml", "--keep-going", "-n"])
    assert rest == ["--keep-going"]
    parameters = dict(inspect.signature(run_benchmark).parameters)
    assert parameters.pop("snakemake_options").default == ()
    assert parameters.keys() == vars(args).keys()
    (args, _) = load_tool("benchmark", monkeypatch).parse_args(["b.yaml"])
    defaults = {name: one.default for name, one in parameters.items() if name != "config"}
    assert defaults == {name: getattr(args, name) for name in defaults}


def test_the_graph_of_the_jobs_is_written_by_snakemake(tmp_path, monkeypatch):
    """Also where Graphviz is not installed, and with braces in the work dir's name."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if shutil.which("dot") is None else "/nowhere")
    content = small_benchmark(tmp_path / "data", tmp_path / "out {x}")
    file = write_benchmark(tmp_path / "b.yaml", content)
    assert run_benchmark(file, dag=tmp_path / "jobs.svg") == 0
    graph = (tmp_path / "jobs.dot").read_text()
    assert graph.startswith("digraph") and graph.endswith("}\n")
    assert "name: pretrain.tiny.s0" in graph and graph.count(" -> ") == 6 + 3
    with pytest.raises(ConfigError, match=r"--dag .*jobs\.dot is there already.*--overwrite"):
        run_benchmark(file, dag=tmp_path / "jobs.svg")
    with pytest.raises(ConfigError, match="--overwrite replaces the file of --dag"):
        run_benchmark(file, overwrite=True)
    one = ["--cores", "1", "transfer.random.s0.voc.s0"]
    assert run_benchmark(file, dag=tmp_path / "jobs.mmd", snakemake_options=one) == 0
    assert (
        run_benchmark(file, dag=tmp_path / "jobs.mmd", snakemake_options=one, overwrite=True) == 0
    )
    graph = (tmp_path / "jobs.mmd").read_text()
    assert one[-1] in graph and "pretrain" not in graph  # a job's name selects what it needs


@pytest.mark.parametrize(
    ("dag", "options", "message"),
    [
        ("x.foo", [], r"x\.foo: expected a file that ends in \.dot, \.mmd"),
        ("/dev/null/x.dot", [], "--dag /dev/null/x.dot cannot be written"),
        (None, ["--cores", "0"], "--cores is 0, expected a whole number from 1 on"),
        (None, ["--jobs", "-1"], "--jobs is -1, expected"),
        (None, ["--cores", "many"], "Options of Snakemake: Error parsing number of cores"),
        (None, ["--cores"], "Options of Snakemake: .*expected one argument"),
        (None, ["--executor", "x"], "Options of Snakemake: .*invalid choice: 'x'"),
        (None, ["--kep-going"], "--kep-going is no option .* Did you mean --keep-going"),
        (None, ["pretrain.tinny.s0"], "no job pretrain.tinny.s0. Did you mean pretrain.tiny.s0"),
    ],
)
def test_options_that_cannot_be_used_are_one_message(dag, options, message, tmp_path):
    file = write_benchmark(tmp_path / "b.yaml", small_benchmark(tmp_path, tmp_path / "out"))
    with pytest.raises(ConfigError, match=message):
        run_benchmark(file, dag=dag, snakemake_options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x"])
def test_a_work_dir_that_cannot_be_written_is_named(place, tmp_path):
    (tmp_path / "file").touch()
    content = small_benchmark(tmp_path, tmp_path / place)
    with pytest.raises(ConfigError, match=r"b\.yaml: work_dir .* cannot be written"):
        run_benchmark(write_benchmark(tmp_path / "b.yaml", content), dry_run=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "y"], "required: attempt"),
        (["x", "y", "0"], "'0', expected a whole number from 1 on"),
        (["absent.json", "y", "1"], "no usable plan absent.json"),
    ],
)
def test_a_job_that_cannot_be_started_is_one_message(words, message):
    process = start(sys.executable, ROOT / "tools" / "benchmark.py", "job", *words)
    output, _ = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert message in output and "Traceback" not in output


@pytest.mark.slow
def test_detectron2_is_a_transfer_as_the_others(tmp_path, monkeypatch):
    """Its own trainer, killed at its first checkpoint; the table has its figures."""
    pytest.importorskip("detectron2", reason="detectron2 is in no registry; see docs/transfers.md")
    monkeypatch.setenv("SLOTCON_DATA", str(write_mini(tmp_path / "mini")))
    work_dir = tmp_path / "out"
    overrides = {
        "MODEL.ROI_HEADS.NUM_CLASSES": 3,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
        "INPUT.MIN_SIZE_TRAIN": "(96,)",
        "INPUT.MIN_SIZE_TEST": 96,
        "SOLVER.MAX_ITER": 8,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "TEST.EVAL_PERIOD": 8,
        "TEST.PRECISE_BN.NUM_ITER": 1,
    }
    config = "configs/det/detectron2/mask_rcnn_r18_mini.yaml"
    content = dict(
        work_dir=str(work_dir),
        references=False,
        pretrainings=dict(random="random"),
        transfers={"coco-d2": dict(config=config, column="coco", overrides=overrides)},
    )
    command = (TOOL, write_benchmark(tmp_path / "d2.yaml", content), "--cores", "1")
    process = start(*command)
    wait_for(lambda: list(work_dir.glob("jobs/transfer.*/*/last_checkpoint")), process)
    kill_all(process)
    process.stdout.close()
    process.wait()
    finish(start(*command), 600)
    (log,) = work_dir.glob("jobs/transfer.*/*/log.txt")
    assert "Starting training from iteration 2" in log.read_text()
    found = figures(work_dir)["APᵐ"]
    assert float(found["mean"]) >= 0
    assert found["paper's protocol"] == "no"
