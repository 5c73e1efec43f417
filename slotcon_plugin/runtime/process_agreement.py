"""Compares what the processes of a training have before the first step.

Processes with other images or another config would meet the wrong collectives, or silently train
another model.
"""

import hashlib
import itertools
import json
import re
import socket
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError
from .config_leaves import LOADING, leaves
from .environment import collect_versions
from .launch import connect_store
from .text_formats import listed

PACKAGE = Path(__file__).resolve().parents[1]
OWN = re.compile(rf"{LOADING}|(visualizer|vis_backends)\b.*")  # a machine's own entries
_calls = itertools.count()  # under torchrun the store has the facts of an earlier training too


def check_agreement(facts: dict[str, str], rank: int, world_size: int) -> None:
    """Raise a ConfigError in every process if the facts differ between processes.

    It names the ranks and what each of them has. It waits until all processes have called it; they
    compare the same facts in the same order.
    """
    if world_size == 1:
        return
    store = connect_store(f"agreement/{next(_calls)}")
    text = json.dumps([socket.gethostname(), facts], sort_keys=True)
    store.set(f"facts{rank}", text)
    store.set(f"digest{rank}", digest([json.dumps(facts, sort_keys=True).encode()]))
    ranks = range(world_size)
    if len(set(store.multi_get([f"digest{rank}" for rank in ranks]))) == 1:
        return
    table = [json.loads(store.get(f"facts{rank}")) for rank in ranks]
    found = differences([host for host, _ in table], [facts for _, facts in table])
    raise ConfigError(
        "The processes would not train the same model; they differ in:\n  "
        + listed(found, separator="\n  ")
        + "\nStart all of them with the same command, files and versions of packages: a shared "
        "folder, or equal copies under the same path on every machine."
    )


def differences(hosts: list[str], facts: list[dict[str, str]]) -> Iterator[str]:
    """One line for each fact that differs: its values, the rarest first, and their ranks."""
    for name in sorted({name for own in facts for name in own}):
        owners: dict[str, list[int]] = {}
        for rank, own in enumerate(facts):
            owners.setdefault(own.get(name, "absent"), []).append(rank)
        if len(owners) > 1:
            parts = sorted(owners.items(), key=lambda item: len(item[1]))
            yield f"{name}: " + "; ".join(
                f"{value} on {_ranks(ranks)} (host {', '.join(sorted({hosts[r] for r in ranks}))})"
                for value, ranks in parts
            )


def config_facts(cfg: Config) -> dict[str, str]:
    """The entries of a config, the versions of packages, and the code and files that it names."""
    entries = leaves(cfg.to_dict())
    facts = {f"config {key}": repr(value) for key, value in entries if not OWN.fullmatch(key)}
    facts |= {f"version of {name}": version for name, version in collect_versions().items()}
    sources = sorted(PACKAGE.rglob("*.py"))
    facts["code of slotcon_plugin"] = digest(path.read_bytes() for path in sources)
    for name in (cfg.get("custom_imports") or {}).get("imports", []):
        spec = find_spec(name)
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            facts[f"code of {name} itself"] = digest([Path(spec.origin).read_bytes()])
    if cfg.get("load_from") and Path(cfg.load_from).is_file():
        facts[f"size of {cfg.load_from}"] = f"{Path(cfg.load_from).stat().st_size} bytes"
    return facts


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """16 hexadecimal digits that differ, almost surely, if any part does."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        total.update(b"%d:" % memoryview(part).nbytes)
        total.update(part)
    return total.hexdigest()


def _ranks(ranks: list[int]) -> str:
    """'rank 3', 'ranks 0-2, 5'."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"rank{'s' * (len(ranks) > 1)} {text}"
