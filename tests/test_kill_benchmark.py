"""benchmarks/kill_benchmark.py compares the results and the weights of two work dirs."""

import json

import torch

from benchmarks.kill_benchmark import chain_progress, chain_results, compare


def write_results(folder, miou, rows="a,1\n", weight=1.0, seconds=3):
    """Of a pretraining with weights, and of a transfer."""
    for job, value in (("pretrain.a", None), ("transfer.a.voc", miou)):
        result = folder / "jobs" / job / "0123" / "result.json"
        result.parent.mkdir(parents=True, exist_ok=True)
        steps = [dict(done="epoch_1.pth" if value is None else "figures.json")]
        content = dict(job=dict(name=job, digest="ab", steps=steps), measures=dict(miou=value))
        content |= dict(losses=[1.0], images={}, seconds=seconds)
        result.write_text(json.dumps(content))
    path = folder / "jobs" / "pretrain.a" / "0123" / "epoch_1.pth"
    torch.save(dict(state_dict=dict(weight=torch.tensor(weight))), path)
    (folder / "tables.csv").write_text(rows)
    return chain_results(folder)


def test_equal_results_pass_whatever_their_times(tmp_path):
    one = write_results(tmp_path / "one", 0.5)
    rows = compare(one, write_results(tmp_path / "other", 0.5, seconds=9))
    names = ["pretrain.a", "pretrain.a/epoch_1.pth", "transfer.a.voc", "tables.csv"]
    assert rows == [[name, "same"] for name in names]


def test_any_difference_is_shown(tmp_path):
    one = write_results(tmp_path / "one", 0.5)
    for changed, name in (
        (dict(miou=0.25), "transfer.a.voc"),
        (dict(miou=0.5, rows="a,2\n"), "tables.csv"),
        (dict(miou=0.5, weight=1.0 + 2**-23), "pretrain.a/epoch_1.pth"),
    ):
        rows = compare(one, write_results(tmp_path / "other", **changed))
        assert [row[0] for row in rows if row[1] != "same"] == [name]
    (tmp_path / "other" / "jobs" / "transfer.a.voc" / "0123" / "result.json").unlink()
    other = chain_results(tmp_path / "other")
    assert ["transfer.a.voc", "DIFFERENT"] in compare(one, other)  # a job without a result
    assert ["transfer.a.voc", "DIFFERENT"] in compare(other, one)


def test_jobs_without_a_result_are_unfinished(tmp_path):
    for job in ("pretrain.a", "transfer.a.voc"):
        folder = tmp_path / "jobs" / job / "0123"
        folder.mkdir(parents=True)
        (folder / "clock.json").write_text("{}")
    (tmp_path / "jobs" / "pretrain.a" / "0123" / "result.json").write_text("{}")
    assert chain_progress(tmp_path) == (1, "transfer.a.voc")
