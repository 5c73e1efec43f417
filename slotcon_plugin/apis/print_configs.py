"""What `slotcon list` prints."""

from itertools import groupby

from ..checkpoints.named_networks import in_zoo, zoo_folder, zoo_networks
from ..runtime.config_files import ROOT, config_names, find_config
from .list_configs import list_configs


def print_configs(path: str | None = None) -> None:
    """Print the configs of each folder, and the trained networks, with a line about each.

    Args:
        path: print only the path of the config with this name, or the folder of `zoo:NAME`.
    """
    if path is not None:
        print(zoo_folder(path) if in_zoo(path) else find_config(path))
        return
    abouts, files = list_configs(), config_names()
    width = max(map(len, abouts))
    order = sorted(abouts, key=lambda name: (files[name].parent, name))
    for folder, names in groupby(order, key=lambda name: files[name].parent):
        print(f"{folder.relative_to(ROOT)}:")
        for name in names:
            print(f"  {name:{width}}  {abouts[name]}")
    if networks := zoo_networks():
        print("trained networks, wherever a checkpoint is taken:")
        print("\n".join(f"  {name:{width}}  {about}" for name, about in networks.items()))
    print("\nslotcon train NAME --dry-run checks one; slotcon list --path NAME prints its file.")
