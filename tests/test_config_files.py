"""Configs are found by path, by name and as `package::path`, in the tools and by MMEngine."""

import pytest
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner
from PIL import Image

from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_files import CONFIGS, PACKAGE, config_names, find_config
from slotcon_plugin.runtime.config_options import read_config

R50 = CONFIGS / "pretrain" / "slotcon_r50_coco.py"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        str(R50),
        "configs/pretrain/slotcon_r50_coco.py",
        "slotcon_plugin::pretrain/slotcon_r50_coco.py",
        "slotcon_plugin::configs/pretrain/slotcon_r50_coco.py",
        "slotcon_plugin::slotcon_r50_coco",
        "pretrain/slotcon_r50_coco",
        "slotcon_r50_coco.py",
        "slotcon_r50_coco",
    ],
)
def test_one_config_by_all_its_names(name):
    assert find_config(name) == R50


def test_every_name_leads_to_its_file():
    names = config_names()
    assert {file.parent.name for file in names.values()} >= {"pretrain", "det", "seg", "benchmark"}
    for name, file in names.items():
        assert find_config(name) == find_config(f"slotcon_plugin::{name}") == file


def test_a_file_here_comes_first(tmp_path):
    (tmp_path / "slotcon_r50_coco.py").write_text("")
    assert find_config("slotcon_r50_coco.py").resolve() == tmp_path / "slotcon_r50_coco.py"


@pytest.mark.parametrize(
    "name, said",
    [
        ("slotcon_r50_cco", "Did you mean slotcon_r50_coco?"),
        ("slotcon_plugin::pretrain/slotcon_r50_cco.py", "Did you mean slotcon_r50_coco?"),
        ("slotcon_plugin::", "slotcon list"),
        ("mime.py", "Did you mean mine.py?"),
        ("pretrained/slotcon_r50_coco.py", "Did you mean slotcon_r50_coco?"),
        ("slotcon_plugin::..", "slotcon list"),
        ("mmdet::none/none.py", "none/none.py"),
        ("nothing::pretrain/none.py", "nothing"),
    ],
)
def test_messages(name, said, tmp_path):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(ConfigError, match="There is no config") as error:
        read_config(name)
    assert name in str(error.value) and said in str(error.value)


def test_configs_of_other_packages():
    pytest.importorskip("mmdet")
    assert find_config("mmdet::_base_/default_runtime.py").is_file()


def test_a_base_from_this_package(tmp_path):
    """The same config as by a path; a user's file may read the base's variables."""
    own = tmp_path / "own.py"
    own.write_text(
        "_base_ = ['slotcon_plugin::pretrain/slotcon_r18_demo.py']\n"
        "train_dataloader = dict(collate_fn=_base_.train_dataloader.collate_fn)\n"
    )
    cfg, original = read_config(own), read_config("slotcon_r18_demo")
    assert cfg.to_dict() == original.to_dict()
    for i in range(2):
        Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / f"{i}.png")
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.source = str(tmp_path)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    assert batch and all(len(value) == 2 for value in batch.values())


def test_mmengines_hub():
    cfg = get_config("slotcon_plugin::pretrain/slotcon_r50_coco.py")  # in a metafile
    assert cfg.to_dict() == Config.fromfile(R50).to_dict()
    assert cfg.filename == str(PACKAGE / ".mim/configs/pretrain/slotcon_r50_coco.py")
    assert get_config("slotcon_plugin::_base_/default_runtime.py").resume is False  # in none
