"""Versions and processor, as results and exported weights record them."""

import json

import torch

from slotcon_plugin.runtime.environment import collect_versions, processor_name
from slotcon_plugin.version import __version__


def test_versions_name_what_is_installed(tmp_path):
    versions = collect_versions()
    assert versions["slotcon_plugin"] == __version__
    assert versions["torch"] == str(torch.__version__)
    assert versions["numpy"] and "commit" not in versions
    assert "commit" not in collect_versions(tmp_path)  # not a checkout
    assert json.loads(json.dumps(versions)) == versions
    assert {type(version) for version in versions.values()} == {str}


def test_the_processor_has_a_name():
    assert processor_name()
