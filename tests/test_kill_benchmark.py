"""benchmarks/kill_benchmark.py compares the results of two work dirs."""

import json

from benchmarks import kill_benchmark


def write_results(folder, miou, rows="a,1\n"):
    for job, value in (("pretrain.a", None), ("transfer.a.voc", miou)):
        result = folder / "jobs" / job / "0123" / "result.json"
        result.parent.mkdir(parents=True)
        content = dict(job=dict(name=job, digest="ab"), measures=dict(miou=value), losses=[1.0])
        content["seconds"] = 3
        result.write_text(json.dumps(content))
    (folder / "tables.csv").write_text(rows)


def test_equal_results_pass_whatever_their_times(tmp_path, capsys):
    files = dict.fromkeys(("undisturbed", "killed"))
    for name in files:
        write_results(tmp_path / name, 0.5)
    result = tmp_path / "killed" / "jobs" / "pretrain.a" / "0123" / "result.json"
    result.write_text(result.read_text().replace('"seconds": 3', '"seconds": 9'))
    assert kill_benchmark.compare(tmp_path, files) == 0
    assert "DIFFERENT" not in capsys.readouterr().out


def test_any_difference_fails(tmp_path, capsys):
    files = dict.fromkeys(("undisturbed", "killed"))
    write_results(tmp_path / "undisturbed", 0.5)
    write_results(tmp_path / "killed", 0.25)
    assert kill_benchmark.compare(tmp_path, files) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: transfer.a.voc" in out and "same: pretrain.a" in out
    (tmp_path / "killed" / "jobs" / "transfer.a.voc" / "0123" / "result.json").unlink()
    assert kill_benchmark.compare(tmp_path, files) == 1  # a job without a result

    write_results(tmp_path / "third", 0.5, rows="a,2\n")
    assert kill_benchmark.compare(tmp_path, dict.fromkeys(("undisturbed", "third"))) == 1
    assert "tables: DIFFERENT" in capsys.readouterr().out


def test_jobs_without_a_result_are_unfinished(tmp_path):
    for job in ("pretrain.a", "transfer.a.voc"):
        folder = tmp_path / "jobs" / job / "0123"
        folder.mkdir(parents=True)
        (folder / "clock.json").write_text("{}")
    (tmp_path / "jobs" / "pretrain.a" / "0123" / "result.json").write_text("{}")
    assert kill_benchmark.unfinished(tmp_path) == ["transfer.a.voc"]
