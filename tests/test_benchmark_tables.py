"""The tables of a benchmark, with figures worked out by hand."""

import csv
import html
import io
import json
import re
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.processes import ROOT
from slotcon_plugin.benchmark.collect import build_table
from slotcon_plugin.benchmark.html_report import write_report
from slotcon_plugin.benchmark.jobs import JobResult, write_record
from slotcon_plugin.benchmark.measures import read_measures
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.result_tables import Cell, write_tables
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.errors import DataError
from slotcon_plugin.runtime.text_formats import to_csv

PROTOCOLS = Protocols(ROOT)
SIZES = ("", "_50", "_75")
FILE = """
title: a & b
work_dir: {work_dir}
gpus: 8
seeds: [0, 1, 2]
references: [random, slotcon-coco-800]
pretrainings:
  coco:
    title: ours
    config: configs/pretrain/slotcon_r50_coco.py
    paper: slotcon-coco-800
  random: random
transfers:
  coco: {{config: configs/det/mask_rcnn_r50_fpn_syncbn_1x_coco.py, column: coco}}
  voc: {{config: configs/seg/fcn_r50_voc12aug.py, column: voc{voc}}}
"""


def finished(job, metrics=None, images=None) -> JobResult:
    """A job's result."""
    fields = dict(run_id="x", measures={}, metrics=metrics or {}, losses={}, images=images or {})
    fields |= dict(seconds=1.5, starts=1, peak_memory_mib=1, peak_gpu_memory_mib=None, bytes=1)
    versions = dict(slotcon_plugin="0.1.0", torch="2.11.0")
    return JobResult(job, **fields, device="a GPU", versions=versions, finished="2026-01-01")


@pytest.fixture
def make(tmp_path):
    """Writes results of all seeds of VOC and of the first of COCO, and collects them."""

    def make(figures, voc="", trained=10582):
        path = tmp_path / "b.yaml"
        path.write_text(FILE.format(work_dir=tmp_path / "out", voc=voc))
        benchmark = read_benchmark(path)
        plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
        jobs = {job.name: job for job in plan.jobs}
        for seed, figure in enumerate(figures):
            images = dict(trained=trained, evaluated=1449)
            job = jobs[f"transfer.coco.s0.voc.s{seed}"]
            write_record(finished(job, dict(mIoU=figure), images), job.result)
        metrics = {
            f"coco/{part}_mAP{size}": share
            for part, shares in dict(bbox=(0.414, 0.61, 0.45), segm=(0.37, 0.58, 0.40)).items()
            for size, share in zip(SIZES, shares, strict=True)
        }
        job, images = jobs["transfer.coco.s0.coco.s0"], dict(trained=117266, evaluated=5000)
        write_record(finished(job, metrics, images), job.result)
        return build_table(benchmark, PROTOCOLS, plan)

    return make


def test_mean_and_standard_deviation():
    cell = Cell.of(pd.Series([70.0, 71.0, 75.0], index=[0, 0, 0]), marked=False)
    # (-2)² + (-1)² + 3² = 14, over n - 1 = 2
    assert (cell.mean, cell.sd, cell.runs) == (72.0, pytest.approx(7**0.5), 3)
    assert Cell.of(pd.Series([70.0], index=[5]), marked=False).sd is None
    # Runs of one pretraining are not independent: means 71 and 73
    cell = Cell.of(pd.Series([70.0, 73.0, 72.0, 73.0], index=[0, 1, 0, 1]), marked=False)
    assert (cell.mean, cell.sd, cell.runs) == (72.0, pytest.approx(2**0.5), 4)
    assert cell.pretrainings == 2


def test_the_table_of_a_finished_benchmark(make, tmp_path):
    table = make([70.0, 71.0, 75.0])
    assert not table.has_marks
    text = table.markdown()
    rows = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    }
    assert rows["pretraining"] == [
        *("APᵇ", "APᵇ50", "APᵇ75", "APᵐ", "APᵐ50", "APᵐ75", "VOC", "source")
    ]
    assert rows["ours"] == [
        *("41.4 (1)", "61.0 (1)", "45.0 (1)", "37.0 (1)", "58.0 (1)", "40.0 (1)"),
        *("72.0 ± 2.6 (3)", "this benchmark"),
    ]
    # 41.4 - 41.0, 61 - 61.1, 45 - 45, 37 - 37, 58 - 58.3, 40 - 39.8, 72 - 71.6
    assert rows["– minus SlotCon, COCO, 800 epochs, published"][:7] == [
        *("+0.4", "-0.1", "+0.0", "+0.0", "-0.3", "+0.2", "+0.4")
    ]
    assert rows["random"] == [*[""] * 7, "this benchmark"]  # no result: empty
    assert rows["random initialization, none"] == [
        "32.8",
        "",
        "",
        "29.9",
        "",
        "",
        "",
        "PixPro README",
    ]
    assert "Mask R-CNN R50-FPN 1x, SyncBN, 4conv1fc" in text


def test_other_protocols_are_marked_everywhere(make, tmp_path):
    table = make([70.0, 71.0], voc=", overrides: {train_cfg.max_iters: 60}")
    assert table.has_marks
    markdown, latex = table.markdown(), table.latex()
    assert "70.5 ± 0.7 (2) †" in markdown  # sd: sqrt(0.5)
    assert "41.4 (1) |" in markdown  # COCO's is not
    assert "† is NOT the paper's protocol" in markdown
    assert "† voc: train_cfg.max_iters is 60, the paper's is 30000" in markdown
    minus = next(line for line in markdown.splitlines() if line.startswith("| – minus"))
    assert minus.split("|")[8].strip() == ""  # and not compared
    assert r"70.5 $\pm$ 0.7 (2) $^\dagger$" in latex
    assert "NOT the paper's protocol" in latex
    assert r"a \& b" in latex
    assert r"& AP$^\text{b}$ & AP$^\text{b}_{50}$ &" in latex
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    figures = {row["figure"]: row for row in rows if row["kind"] == "ours"}
    voc = figures["VOC"]
    assert (voc["mean"], voc["sd"], voc["runs"], voc["pretrainings"]) == ("70.5", "0.71", "2", "1")
    assert voc["paper's protocol"] == "no"
    assert figures["APᵇ"]["paper's protocol"] == "yes"
    assert figures["APᵇ"]["family"] == "Mask R-CNN R50-FPN 1x, SyncBN, 4conv1fc"
    runs = list(csv.DictReader(io.StringIO(to_csv(table.runs))))
    assert [(r["measure"], r["percent"], r["paper's protocol"]) for r in runs][-2:] == [
        ("voc", "70.0", "no"),
        ("voc", "71.0", "no"),
    ]
    assert runs[-1]["reasons"] == "train_cfg.max_iters is 60, the paper's is 30000"
    write_tables(table, tmp_path / "out")
    assert (tmp_path / "out" / "tables.tex").read_text() == latex


def test_another_number_of_images_is_marked(make):
    table = make([70.0, 71.0], trained=1464)
    assert "† voc: trained is 1464, the paper's is 10582" in table.markdown()
    assert "70.5 ± 0.7 (2) †" in table.markdown()


def test_a_corrected_column_applies_to_existing_results(make, tmp_path):
    make([70.0], voc="")
    file = tmp_path / "b.yaml"
    file.write_text(file.read_text().replace("column: voc", "column: ade"))
    benchmark = read_benchmark(file)
    table = build_table(benchmark, PROTOCOLS, Planner(benchmark, ROOT, PROTOCOLS).plan())
    assert "| ADE " in table.markdown() and "70.0 (1) †" in table.markdown()


def test_results_of_several_commits_are_named(make, tmp_path):
    assert "several versions" not in make([70.0, 71.0]).markdown()
    for file in (tmp_path / "out").glob("jobs/*voc*/*/result.json"):
        result = json.loads(file.read_text())
        result["versions"]["commit"] = f"abc{result['job']['about']['transfer_seed']}"
        file.write_text(json.dumps(result))
    benchmark = read_benchmark(tmp_path / "b.yaml")
    table = build_table(benchmark, PROTOCOLS, Planner(benchmark, ROOT, PROTOCOLS).plan())
    assert "results of several versions of commit: abc0, abc1, unknown" in table.markdown()


def test_a_note_says_that_the_origin_of_a_checkpoint_is_a_claim(tmp_path):
    (tmp_path / "theirs.pth").write_bytes(b"x")
    file = tmp_path / "b.yaml"
    file.write_text(
        f"work_dir: {tmp_path}/out\nreferences: false\npretrainings:\n"
        f"  theirs: {{checkpoint: {tmp_path}/theirs.pth, paper: slotcon-coco-800}}\n"
        "transfers:\n  voc: {config: configs/seg/fcn_r50_voc12aug.py, column: voc}\n"
    )
    benchmark = read_benchmark(file)
    table = build_table(benchmark, PROTOCOLS, Planner(benchmark, ROOT, PROTOCOLS).plan())
    assert (
        "taken as SlotCon, COCO, 800 epochs, because the benchmark file says so" in table.markdown()
    )


def test_the_unsupervised_protocol_is_checked_by_what_was_scored():
    def differences(prototypes, evaluated):
        metrics = dict(results=dict(prototypes=prototypes))
        result = finished(None, metrics, dict(evaluated=evaluated))
        return PROTOCOLS.counted("stuff-unsupervised", result)

    assert differences(27, 2175) == []
    assert differences(256, 5000) == ["prototypes is 256, the paper's is 27"]
    assert differences(27, 27) == ["evaluated is 27, the paper's is 5000 or 2175"]


def test_latex_is_escaped(make):
    table = replace(make([70.0]), title=r"50 % of {a}_b \ $x^2$ ~")
    assert r"50 \% of \{a\}\_b \textbackslash{} \$x\^{}2\$ \~{}" in table.latex()


def test_figures_are_read_from_what_the_tools_write():
    coco = {f"coco/{part}_mAP{size}": 0.5 for part in ("bbox", "segm") for size in SIZES}
    found = read_measures("openmmlab", "coco", coco | {"coco/segm_mAP_75": 0.25})
    assert (found["box_ap"], found["mask_ap75"]) == (50.0, 25.0)
    d2 = {part: {"AP": 41.0, "AP50": 61.1, "AP75": 45.0} for part in ("bbox", "segm")}
    assert read_measures("detectron2", "coco", d2)["box_ap50"] == 61.1
    assert read_measures("openmmlab", "city", {"mIoU": 76.2}) == {"city": 76.2}
    for wrong in ({}, {"mIoU": float("nan")}, {"mIoU": -1}):
        with pytest.raises(DataError, match="for mIoU; expected a number from 0"):
            read_measures("openmmlab", "ade", wrong)


def test_published_rows_are_those_of_the_sources():
    """Some of them again, to notice a typing error in references.yaml."""
    rows = PROTOCOLS.references
    assert rows["slotcon-coco-800"].results["mask_ap75"] == 39.8
    assert rows["random"].results == {"box_ap": 32.8, "mask_ap": 29.9}
    assert rows["slotcon-in1k-200"].results == rows["slotcon-cocoplus-800"].results
    assert all(row.source and row.family for row in rows.values())


SHARES = {f"coco/{part}_mAP{size}": 0.4 for part in ("bbox", "segm") for size in SIZES}
FAMILIES = {
    column: PROTOCOLS.protocols[f"{column}-{kind}"].family
    for column, kind in {"coco": "openmmlab", "voc": "openmmlab", "stuff": "unsupervised"}.items()
}


def test_rows_of_other_families_are_neither_shown_nor_compared(make, tmp_path):
    """Whatever row a file names: a figure enters a table only in the column of its own family."""
    others = {
        key: row
        for key, row in PROTOCOLS.references.items()
        if any(family != FAMILIES.get(column, family) for column, family in row.family.items())
    }
    assert {"soco-random", "slotcon-in1k-200-c4", "densecl-coco-800-voc"} <= others.keys()
    make([70.0])
    file, theirs = tmp_path / "b.yaml", tmp_path / "theirs.pth"
    theirs.write_bytes(b"x")
    text = file.read_text().replace("[random, slotcon-coco-800]", f"[random, {', '.join(others)}]")
    for key in others:  # claims that make a comparison possible, if the families were equal
        text = text.replace(
            "  random: random",
            f"  of-{key}: {{checkpoint: {theirs}, paper: {key}}}\n  random: random",
        )
    file.write_text(text)
    benchmark = read_benchmark(file)
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    for job in plan.jobs:
        if transfer := job.about.get("transfer"):
            counted = dict(voc=(10582, 1449), coco=(117266, 5000))[transfer]
            images = dict(zip(("trained", "evaluated"), counted, strict=True))
            write_record(finished(job, SHARES | dict(mIoU=70.0), images), job.result)
    table = build_table(benchmark, PROTOCOLS, plan)
    shown = [row.label for row in table.rows if row.kind != "ours"]
    assert shown == [
        "– minus SlotCon, COCO, 800 epochs, published",
        "– minus random initialization, none, published",
        "random initialization, none",
    ]
    for row in others.values():
        families = ", ".join(row.family.values())
        assert (
            f"not shown, since no transfer here is {families}: {row.title}, {row.pretraining}"
            in table.notes
        )


def test_a_family_has_one_random_row():
    rows = [row for row in PROTOCOLS.references.values() if row.pretraining == "none"]
    assert len(rows) == 2
    assert len({tuple(row.family.items()) for row in rows}) == 2


def test_rows_that_pretrain_more_than_the_encoder_are_marked(make, tmp_path):
    make([70.0])
    (tmp_path / "theirs.pth").write_bytes(b"x")
    file = tmp_path / "b.yaml"
    text = file.read_text().replace("[random, slotcon-coco-800]", "true")
    more = f"  soco: {{checkpoint: {tmp_path}/theirs.pth, paper: soco-in1k-100}}\n"
    more += "  decon: {config: configs/pretrain/decon_fpn_r50_coco.py}\n"
    more += "  alone: {same_as: decon, parts: encoder}\n"
    file.write_text(text.replace("  random: random", f"{more}  random: random"))
    benchmark = read_benchmark(file)
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    job = next(job for job in plan.jobs if job.name == "transfer.soco.s0.coco.s0")
    images = dict(trained=117266, evaluated=5000)
    write_record(finished(job, SHARES, images), job.result)
    table = build_table(benchmark, PROTOCOLS, plan)
    marked = {row.label for row in table.rows if row.label.endswith(" ‡")}
    assert marked == {"decon ‡", *(f"InsLoc, ImageNet, {n} epochs ‡" for n in (200, 400))} | {
        f"SoCo, ImageNet, {n} epochs ‡" for n in (100, 400)
    }
    assert "‡ pretrains more than the encoder: decon: mmdet.FPN" in table.notes
    assert not [row for row in table.rows if "minus SoCo" in row.label]
    soco = "SoCo, ImageNet, 100 epochs: the FPN and the detector's head"
    assert f"- ‡ pretrains more than the encoder: {soco}" in table.markdown()
    assert r"SoCo, ImageNet, 100 epochs $^\ddagger$ & 42.3" in table.latex()
    assert "SoCo, ImageNet, 100 epochs ‡,APᵇ,42.3" in table.csv().replace('"', "")


def test_texts_are_escaped_in_every_format(make, tmp_path):
    """A title is free text: it is not markup, and not a formula of a spreadsheet."""
    title = '=cmd|"<b>[x](http://x)\n# `y`"'
    table = make([70.0])
    rows = [replace(row, label=title) for row in table.rows]
    table = replace(table, title=title, rows=rows, notes=[title])
    lines = table.markdown().splitlines()
    assert len({line.count(" | ") for line in lines if line.startswith("| ")}) == 1
    shown = r'=cmd\|"\<b>\[x](http\://x) # \`y\`"'
    assert f"## \\{shown}" in lines and f"- \\{shown}" in lines
    assert all(line.startswith(f"| {shown} ") for line in lines[4:] if line.startswith("| "))
    assert table.latex().count(r"=cmd|\"<b>{[}x{]}(http://x) \# `y`\"".replace('\\"', '"')) >= 3
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert {row["pretraining"] for row in rows} == {"'" + title.replace("\n", " ")}
    assert {row["mean"] for row in rows if row["kind"] == "difference"} >= {"-0.1", "0.4"}
    frame = pd.DataFrame([["+1", "@x", "-", "\t=x", " ＝x", -1.5, "x=1"]], columns=list("abcdefg"))
    assert to_csv(frame).splitlines()[1] == "'+1,'@x,'-,'=x,'＝x,-1.5,x=1"
    benchmark = read_benchmark(tmp_path / "b.yaml")
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    write_report(table, benchmark, plan)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>[x]" not in page and "=cmd|&#34;&lt;b&gt;[x](http://x)" in page


def test_the_report_has_commands_for_the_shell(make, tmp_path):
    table = make([70.0])
    path = tmp_path / "b.yaml"
    path.write_text(path.read_text().replace(f"{tmp_path}/out", f"'{tmp_path}/out $x'"))
    benchmark = read_benchmark(path)
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    write_report(table, benchmark, plan)
    page = (tmp_path / "out $x" / "report.html").read_text()
    scripts = re.findall(r"<pre>(export OUT=[^<]*tools/test.py[^<]*)</pre>", page)
    script = html.unescape(scripts[0])
    assert '--backbone "$OUT/export.coco.s0/encoder.pth"' in script
    assert "out $x" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
