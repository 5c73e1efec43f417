"""A benchmark's jobs: what they depend on, what they cost, and whether they are the paper's."""

import copy
import shutil
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from benchmarks.processes import ROOT
from benchmarks.small_benchmark import small_benchmark, write_benchmark
from slotcon_plugin.benchmark.clock import Notes
from slotcon_plugin.benchmark.collect import build_table
from slotcon_plugin.benchmark.job_states import describe_plan, states_of
from slotcon_plugin.benchmark.jobs import JobResult, Plan, write_record
from slotcon_plugin.benchmark.measures import read_measures
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.recipe import option_words, resolve
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.text_formats import describe_duration

PROTOCOLS = Protocols(ROOT)
TRANSFERS = {"transfer.tiny.s0.coco.s0", "transfer.tiny.s0.voc.s0"}
RANDOM = {"transfer.random.s0.coco.s0", "transfer.random.s0.voc.s0"}


def finished(job, **changes) -> JobResult:
    """A job's result, with nothing in it."""
    fields = dict(run_id="x", measures={}, metrics={}, losses={}, images={}, seconds=1.0)
    fields |= dict(starts=1, peak_memory_mib=1, peak_gpu_memory_mib=None, bytes=1)
    fields |= dict(device="a CPU", versions={}, finished="2026-01-01")
    return JobResult(job=job, **fields | changes)


@pytest.fixture
def content(tmp_path):
    return small_benchmark(tmp_path / "data", tmp_path / "out")


PLAN = TypeAdapter(Plan)


def jobs_of(content, tmp_path):
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    return {job.name: job for job in Planner(benchmark, ROOT, PROTOCOLS).plan().jobs}


def test_every_pretraining_is_measured_by_every_transfer(content, tmp_path):
    content["transfers"]["voc"]["seeds"] = [3, 4]
    content["pretrainings"]["tiny"]["seeds"] = [0, 1]
    jobs = jobs_of(content, tmp_path)
    assert len(jobs) == 2 + 2 + 2 * 3 + 3  # pretrainings, exports, their transfers, random's
    transfer = jobs["transfer.tiny.s1.voc.s4"]
    assert transfer.needs == ["export.tiny.s1"]
    assert jobs["export.tiny.s1"].needs == ["pretrain.tiny.s1"]
    words = transfer.steps[0].command
    assert words[words.index("--seed") + 1] == "4"
    assert words[words.index("--backbone") + 1] == f"{jobs['export.tiny.s1'].folder}/encoder.pth"
    assert len({job.folder for job in jobs.values()}) == len(jobs)
    plan = Planner(read_benchmark(tmp_path / "b.yaml"), ROOT, PROTOCOLS).plan()
    assert PLAN.validate_json(PLAN.dump_json(plan)) == plan


def changed_jobs(content, tmp_path, section, name, key, value):
    before = jobs_of(content, tmp_path)
    other = copy.deepcopy(content)
    other[section][name]["overrides"][key] = value
    after = jobs_of(other, tmp_path)
    return {job for job in before if before[job].folder != after[job].folder}


def test_a_changed_config_changes_the_digests_of_exactly_the_jobs_that_depend_on_it(
    content, tmp_path
):
    def changed(*what):
        return changed_jobs(content, tmp_path, *what)

    pretrain = changed("pretrainings", "tiny", "train_cfg.max_epochs", 9)
    assert pretrain == {"pretrain.tiny.s0", "export.tiny.s0", *TRANSFERS}
    voc = changed("transfers", "voc", "optim_wrapper.optimizer.lr", 0.5)
    assert voc == {"transfer.tiny.s0.voc.s0", "transfer.random.s0.voc.s0"}
    before = jobs_of(content, tmp_path)
    content["transfers"]["voc"]["gpus"] = 1  # another precision, and batch norm over processes
    after = jobs_of(content, tmp_path)
    assert {name for name in before if before[name].folder != after[name].folder} == voc
    for entry, value in (
        ("default_hooks.checkpoint.interval", 7),
        ("train_dataloader.num_workers", 3),
        ("log_level", "DEBUG"),
    ):
        assert changed("pretrainings", "tiny", entry, value) == set()


def test_bases_and_environment_change_the_digest(content, tmp_path, monkeypatch):
    base, config = tmp_path / "base.py", tmp_path / "config.py"
    base.write_text(f"_base_ = ['{ROOT}/configs/seg/fcn_r18_mini.py']\nsomething = 1\n")
    config.write_text(f"_base_ = ['{base}']\n")
    content["transfers"]["voc"]["config"] = str(config)
    before = jobs_of(content, tmp_path)
    monkeypatch.setenv("SLOTCON_BACKBONE", "whatever")  # the jobs name theirs
    assert jobs_of(content, tmp_path) == before
    base.write_text(base.read_text() + "something = 2\n")
    after = jobs_of(content, tmp_path)
    changed = {name for name in before if before[name].digest != after[name].digest}
    assert changed == {"transfer.tiny.s0.voc.s0", "transfer.random.s0.voc.s0"}
    del content["transfers"]["coco"]["overrides"]["train_dataloader.dataset.data_root"]
    monkeypatch.setenv("SLOTCON_DATA", "/data/one")
    before = jobs_of(content, tmp_path)
    assert before["pretrain.tiny.s0"].environment["SLOTCON_DATA"] == "/data/one"
    monkeypatch.setenv("SLOTCON_DATA", "/data/other")
    after = jobs_of(content, tmp_path)
    assert before["transfer.tiny.s0.coco.s0"].digest != after["transfer.tiny.s0.coco.s0"].digest


def test_the_content_of_a_checkpoint_changes_the_digest(content, tmp_path):
    file = tmp_path / "encoder.pth"
    file.write_bytes(b"one")
    content["pretrainings"]["file"] = dict(checkpoint=str(file))
    before = jobs_of(content, tmp_path)
    file.touch()
    assert jobs_of(content, tmp_path) == before
    file.write_bytes(b"two")
    after = jobs_of(content, tmp_path)
    changed = {name for name in before if before[name].digest != after[name].digest}
    assert changed == {name for name in before if ".file." in name}
    file.unlink()
    with pytest.raises(ConfigError, match=r"encoder\.pth cannot be read"):
        jobs_of(content, tmp_path)


def test_errors_of_a_config_name_the_entry_of_the_benchmark(content, tmp_path):
    content["transfers"]["voc"]["overrides"]["optim_wrapper.optimizer.lr"] = "much"
    with pytest.raises(ConfigError, match=r"b\.yaml: transfers\.voc: .*lr is 'much'"):
        jobs_of(content, tmp_path)
    content["transfers"]["voc"]["config"] = "configs/seg/absent.py"
    with pytest.raises(ConfigError, match=r"transfers\.voc: .*absent\.py"):
        jobs_of(content, tmp_path)


def test_overrides_keep_their_types():
    overrides = {"a": 3, "b": "3", "c": "text", "d": [1, 2], "e": None, "f": True, "g": "True"}
    words = option_words(overrides | {"h": "(1, 2)"})
    assert words == [
        "a=3",
        "b='3'",
        "c=text",
        "d=[1, 2]",
        "e=None",
        "f=True",
        "g='True'",
        "h=(1, 2)",
    ]


def test_a_detectron2_config_is_read_with_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {RESNETS: {DEPTH: 50, NORM: BN}}\nVERSION: 2\n")
    path = tmp_path / "config.yaml"
    path.write_text("_BASE_: base.yaml\nMODEL: {RESNETS: {DEPTH: 18}}\nSOLVER: {MAX_ITER: 20}\n")
    assert resolve(path, {"SOLVER.MAX_ITER": 5, "SOLVER.BASE_LR": 0.5}) == {
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.NORM": "BN",
        "SOLVER.MAX_ITER": 5,
        "SOLVER.BASE_LR": 0.5,
        "VERSION": 2,
    }


def test_jobs_of_paper_yaml_do_not_deviate_from_the_protocols(tmp_path, monkeypatch):
    path = ROOT / "configs" / "benchmark" / "paper.yaml"
    benchmark = read_benchmark(path)
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    assert {job.rule for job in plan.jobs} >= {"pretrain", "export", "transfer"}
    for job in plan.jobs:
        assert job.deviations == [], job.name
    for one in benchmark.pretrainings.values():
        if one.config:
            assert PROTOCOLS.references[one.paper].protocol in PROTOCOLS.protocols


@pytest.mark.parametrize(
    ("section", "name", "change", "reason"),
    [
        ("transfers", "voc", {"overrides": {"train_cfg.max_iters": 60}}, "max_iters is 60"),
        (
            "transfers",
            "voc",
            {"overrides": {"model.decode_head.channels": 8}},
            "decode_head.channels",
        ),
        ("pretrainings", "coco", {"gpus": 4}, "global_batch is 256, the paper's is 512"),
        ("pretrainings", "coco", {"paper": None}, "none of the paper's"),
        (
            "pretrainings",
            "coco",
            {"overrides": {"train_dataloader.dataset.source": "/other"}},
            "other values of train_dataloader.dataset.source",
        ),
    ],
)
def test_deviations_from_a_protocol_are_described(section, name, change, reason, tmp_path):
    content = {
        "work_dir": str(tmp_path),
        "gpus": 8,
        "pretrainings": {
            "coco": dict(config="configs/pretrain/slotcon_r50_coco.py", paper="slotcon-coco-800")
        },
        "transfers": {"voc": dict(config="configs/seg/fcn_r50_voc12aug.py", column="voc")},
    }
    content[section][name].update(change)
    jobs = jobs_of(content, tmp_path)
    found = {job.name: job.deviations for job in jobs.values() if job.deviations}
    (job,) = found
    assert job.startswith({"transfers": "transfer.", "pretrainings": "pretrain."}[section])
    assert reason in "; ".join(found[job])


def test_optional_transfers_without_data_are_left_out(content, tmp_path):
    stuff = dict(evaluate="unsupervised", images="p", labels="l", optional=True, data=["/absent"])
    content["transfers"]["stuff"] = stuff
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    assert plan.left_out == ["stuff: no /absent"]
    assert not any("stuff" in job.name for job in plan.jobs)

    content["pretrainings"]["tiny"]["transfers"] = ["stuff"]  # no training that nothing measures
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    assert plan.left_out[1:] == ["tiny: none of its transfers"]
    assert {job.name for job in plan.jobs} == RANDOM

    content["transfers"], content["pretrainings"] = dict(stuff=stuff), dict(random="random")
    nothing = read_benchmark(write_benchmark(tmp_path / "c.yaml", content))
    with pytest.raises(ConfigError, match="no job to run: stuff: no /absent"):
        Planner(nothing, ROOT, PROTOCOLS).plan()


def test_times_are_estimated_from_finished_jobs(content, tmp_path):
    content["transfers"]["voc"]["overrides"]["train_cfg.max_iters"] = 10
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    plan = Planner(benchmark, ROOT, PROTOCOLS).plan()
    jobs = {job.name: job for job in plan.jobs}
    done = jobs["transfer.random.s0.voc.s0"]
    write_record(finished(done, seconds=100.0, bytes=2**30), done.result)
    folder = Path(jobs["pretrain.tiny.s0"].folder)
    write_record(Notes(seconds=30.0, starts=1), folder / "clock.json")
    (folder / "epoch_1.pth").touch()
    states = states_of(plan, benchmark.work_dir)
    assert states[done.name].word == "done"
    # 10 s an iteration, 10 iterations
    assert states["transfer.tiny.s0.voc.s0"].seconds_left == 100
    assert states["transfer.tiny.s0.coco.s0"].seconds_left is None
    # one of two epochs took 30 s
    state = states["pretrain.tiny.s0"]
    assert (state.word, state.share, state.seconds_left) == ("begun", 0.5, 30)
    text = describe_plan(plan, states, benchmark.work_dir)
    assert "6 jobs: 1 done, 5 to run" in text
    assert "0.04 CPU-hours, and 3 jobs of which no similar one was measured" in text  # 130 s
    assert "2.0 GiB for 2 of 6 jobs" in text


def test_durations():
    assert [describe_duration(s) for s in (None, 45, 720, 12240, 181440)] == [
        *("?", "45 s", "12 min", "3.4 h", "2.1 days")
    ]


def test_the_content_of_load_from_changes_the_digest(content, tmp_path):
    """A transfer that starts from a checkpoint is not the paper's."""
    start, config = tmp_path / "start.pth", tmp_path / "config.py"
    config.write_text(f"_base_ = ['{ROOT}/configs/seg/fcn_r18_mini.py']\nload_from = '{start}'\n")
    content["transfers"]["voc"]["config"] = str(config)
    folders = []
    for data in (b"one", b"other"):
        start.write_bytes(data)
        job = jobs_of(content, tmp_path)["transfer.random.s0.voc.s0"]
        folders.append(job.folder)
    assert folders[0] != folders[1]
    start.unlink()
    with pytest.raises(ConfigError, match=r"start\.pth cannot be read"):
        jobs_of(content, tmp_path)


def test_moving_the_repository_or_the_work_dir_changes_no_digest(tmp_path, monkeypatch):
    def digests(root, work_dir, labels="{}"):
        data = root / "data"
        if not root.exists():
            shutil.copytree(ROOT / "configs", root / "configs")
            (data / "images").mkdir(parents=True)
        (data / "list.txt").write_text("000")
        (data / "labels.json").write_text(labels)
        (root / "full.pth").write_bytes(b"weights")
        monkeypatch.setenv("SLOTCON_DATA", str(data))
        monkeypatch.chdir(root)
        named = dict(images="data/images", labels=f"{data}/labels.json", list="data/list.txt")
        content = small_benchmark(data, work_dir)
        content["pretrainings"]["theirs"] = dict(checkpoint="full.pth")
        content["transfers"]["stuff"] = dict(evaluate="unsupervised", **named)
        content["transfers"]["seg"] = dict(config="configs/seg/fcn_r18_tiny.py", column="voc")
        benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
        jobs = Planner(benchmark, root, Protocols(root)).plan().jobs
        return {job.name: job.digest for job in jobs}

    one = digests(tmp_path / "one", tmp_path / "out")
    assert digests(tmp_path / "other", tmp_path / "other" / "work_dirs" / "x") == one
    changed = digests(tmp_path / "other", tmp_path / "out", labels='{"other": 1}')
    assert {name for name in one if changed[name] != one[name]} == {
        "evaluate.tiny.s0.stuff.s0",
        "evaluate.theirs.s0.stuff.s0",
    }


def test_parts_of_one_pretraining(content, tmp_path):
    both = dict(same_as="tiny", parts="encoder")
    content["pretrainings"] |= dict(alone=both)
    jobs = jobs_of(content, tmp_path)
    assert [name for name in jobs if name.startswith("pretrain.")] == ["pretrain.tiny.s0"]
    whole, alone = jobs["export.tiny.s0"], jobs["export.alone.s0"]
    assert alone.needs == whole.needs == ["pretrain.tiny.s0"]
    assert [*whole.steps[0].command, "--parts", "encoder"] == alone.steps[0].command
    assert alone.digest != whole.digest
    assert jobs["transfer.alone.s0.coco.s0"].needs == ["export.alone.s0"]
    del content["pretrainings"]["alone"]
    assert jobs_of(content, tmp_path)["export.tiny.s0"].digest == whole.digest
    for wrong, message in (
        (dict(same_as="random"), "`random` is no entry with `config` or `checkpoint`; there is t"),
        (dict(same_as="alone"), "`alone` is no entry"),
        (dict(same_as="tiny", seeds=[1]), "`same_as` is not trained and takes no seeds"),
        (dict(weights="supervised", parts="encoder"), "has no decoder and takes no parts"),
        (dict(same_as="tiny", parts="decoder"), "parts is 'decoder'; expected 'all' or 'encoder'"),
    ):
        content["pretrainings"]["alone"] = wrong
        with pytest.raises(ConfigError, match=message):
            jobs_of(content, tmp_path)


def test_decon_yaml():
    benchmark = read_benchmark(ROOT / "configs" / "benchmark" / "decon.yaml")
    jobs = {job.name: job for job in Planner(benchmark, ROOT, PROTOCOLS).plan().jobs}
    trained = {name for name in jobs if name.startswith("pretrain.")}
    assert trained == {f"pretrain.{name}.s0" for name in ("slotcon", "decon-fpn", "decon-fcn")}
    assert jobs["export.decon-fpn-encoder.s0"].needs == ["pretrain.decon-fpn.s0"]
    table = build_table(benchmark, PROTOCOLS, Plan(list(jobs.values()), []))
    notes = "; ".join(table.notes)
    assert "DeCon, FPN, encoder only: transfers get the encoder without its pretrained d" in notes


def test_every_kind_of_evaluation_is_a_transfer(content, tmp_path):
    """Of trained encoders by their checkpoint, of random weights by the config of the network."""
    labels = dict(images="p", labels="l", labels_format="index:3", size=64)
    learned = dict(labels, train_list="t.txt")
    transfers = {
        "groups": dict(labels, evaluate="unsupervised", column="groups"),
        "clusters": dict(learned, evaluate="overcluster", clusters=5),
        "retrieval": dict(learned, evaluate="retrieval", memory=100),
        "probe": dict(learned, evaluate="probe", epochs=2, lr=0.1, stage=3),
        "knn": dict(evaluate="knn", images="p", train="q"),
    }
    results = {
        "unsupervised": dict(matchings={"many-to-one": dict(miou=1.5)}),
        "overcluster": dict(clusterings={"5": {"many-to-one": dict(miou=2.5)}}),
        "retrieval": dict(miou=3.5),
        "probe": dict(miou=4.5),
        "knn": dict(top1=5.5),
    }
    voc, tiny = content["transfers"]["voc"], content["pretrainings"]["tiny"]
    content["transfers"] = dict(transfers, voc=voc)
    network = dict(weights="random", config=tiny["config"], seeds=[0, 1])
    content["pretrainings"] |= dict(network=network)
    jobs = jobs_of(content, tmp_path)
    for name, options in transfers.items():
        trained, random = (
            jobs[f"evaluate.tiny.s0.{name}.s0"],
            jobs[f"evaluate.network.s1.{name}.s0"],
        )
        _, tool, kind, source, *words = trained.steps[0].command
        assert (tool, kind) == ("tools/evaluate.py", options["evaluate"])
        assert (
            source == f"{jobs['pretrain.tiny.s0'].folder}/{jobs['pretrain.tiny.s0'].steps[0].done}"
        )
        assert set(options) - {"evaluate", "column"} <= {
            word[2:].partition("=")[0].replace("-", "_") for word in words
        }
        assert random.steps[0].command[3].startswith("random:") and not random.needs
        assert "--seed=1" in random.steps[0].command
        other = jobs[f"evaluate.network.s0.{name}.s0"]
        assert len({trained.digest, random.digest, other.digest}) == 3
        metrics = dict(data=dict(test=dict(images=1)), results=results[kind])
        measures = read_measures(trained.about["kind"], trained.about["column"], metrics)
        assert list(measures) == [trained.about["column"]]
    fine_tuned = [name for name in jobs if name.startswith("transfer.network")]
    assert fine_tuned == ["transfer.network.s0.voc.s0"]  # its seed draws the weights
    assert not any(name.startswith("evaluate.random") for name in jobs)  # of no known network


def test_a_paired_transfer_has_the_seed_of_its_pretraining(content, tmp_path):
    """Of random weights too, with the seed in its overrides, in the command and in the digest."""
    tiny, voc = content["pretrainings"]["tiny"], content["transfers"]["voc"]
    content["pretrainings"] = dict(
        tiny=dict(tiny, seeds=[3, 4]),
        network=dict(weights="random", config=tiny["config"], seeds=[3, 4]),
    )
    entry = "train_dataloader.dataset.ann_file"
    content["transfers"] = dict(voc=dict(voc, paired=True))
    voc["overrides"][entry] = "lists/train_{seed}.txt"
    jobs = jobs_of(content, tmp_path)
    of_transfers = {name: job for name, job in jobs.items() if job.rule == "transfer"}
    assert set(of_transfers) == {
        f"transfer.{one}.s{seed}.voc.s{seed}" for one in content["pretrainings"] for seed in (3, 4)
    }
    for name, job in of_transfers.items():
        words = job.steps[0].command
        assert words[words.index("--seed") + 1] == name[-1]
        assert f"{entry}=lists/train_{name[-1]}.txt" in words
        assert job.recipe["config"][entry] == f"lists/train_{name[-1]}.txt"


@pytest.mark.parametrize(("depth", "contracted"), [(50, True), (18, False)])
def test_random_weights_have_the_entries_of_their_network(content, tmp_path, depth, contracted):
    """What follows from a backbone's file follows here from the config of the random network."""
    recipe = dict(config=f"configs/pretrain/slotcon_r{depth}_own.py")
    content["pretrainings"] = dict(random=dict(recipe, weights="random"))
    content["transfers"] = dict(fcn=dict(config="configs/seg/fcn_own.py", column="seg"))
    content["transfers"]["fcn"]["overrides"] = {"train_cfg.max_iters": 10}
    (job,) = jobs_of(content, tmp_path).values()
    for name, value in dict(depth=depth, contract_dilation=contracted).items():
        assert f"model.backbone.{name}={value}" in job.steps[0].command
        assert job.recipe["config"][f"model.backbone.{name}"] == value


def test_random_weights_of_another_encoder_are_no_resnets(content, tmp_path):
    recipe = dict(config="configs/pretrain/slotcon_vit_small_coco.py")
    content["pretrainings"] = dict(random=dict(recipe, weights="random"))
    content["transfers"] = dict(fcn=dict(config="configs/seg/fcn_own.py", column="seg"))
    content["transfers"]["fcn"]["overrides"] = {"train_cfg.max_iters": 10}
    with pytest.raises(ConfigError, match=r"pretrainings\.random: .*vit_small.* is no ResNet: "):
        jobs_of(content, tmp_path)
