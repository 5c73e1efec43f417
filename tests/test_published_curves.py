"""benchmarks/published_curves.py: distances of given curves, and runs that cannot be compared."""

import json

import numpy as np
import pytest

from benchmarks import published_curves


def write_runs(folder, name, shift, lengths=(30, 30)):
    """A folder for each length: losses that fall from 6, and seeds that differ by two."""
    runs = []
    for seed, steps in enumerate(lengths):
        run = folder / f"{name}{seed}"
        run.mkdir()
        losses = 6 - np.arange(steps) / 10 + 2 * seed + shift
        lines = [json.dumps({"step": i, "loss": loss}) for i, loss in enumerate(losses)]
        (run / "metrics.json").write_text("\n".join(lines))
        runs.append(str(run))
    return runs


def test_the_distance_is_given_in_deviations_of_the_seeds(tmp_path, capsys):
    drawn, deviation = tmp_path / "curves.png", 2**0.5
    published = write_runs(tmp_path, "published", 0)
    ours = write_runs(tmp_path, "ours", deviation / 2)
    published_curves.main(["--published", *published, "--ours", *ours, "--out", str(drawn)])
    text = capsys.readouterr().out
    assert f"loss at the end {6 - 1.95 + 1:.4f} ± {deviation:.4f}" in text
    assert text.count("(0.50") == 2  # on average and at most
    assert drawn.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("lengths", "message"), [((30,), "two folders or more"), ((30, 29), "ours1: 29")]
)
def test_what_cannot_be_compared_is_an_error(lengths, message, tmp_path, capsys):
    published = write_runs(tmp_path, "published", 0)
    ours = write_runs(tmp_path, "ours", 0, lengths)
    with pytest.raises(SystemExit):
        published_curves.main(["--published", *published, "--ours", *ours])
    assert message in capsys.readouterr().err
