"""The files of configs: paths, names, and `package::path` as MMEngine writes it.

`slotcon_plugin/.mim` has what the repository keeps beside the package, where OpenMMLab's packages
have it: `configs`, `tools`, `model-index.yml`; and `zoo`. They are links in a clone, files in a
wheel.
"""

from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from ..errors import ConfigError, did_you_mean
from .regular_files import open_regular

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = (PACKAGE / ".mim" / "configs").resolve().parent  # of configs/ and tools/
CONFIGS = ROOT / "configs"
MARK = f"{PACKAGE.name}::"
NO_CONFIGS = {"_base_", "profiles", "metafile.yml", "protocols.yaml", "references.yaml"}


def find_config(config: str | Path) -> Path:
    """The file of a config.

    Args:
        config: a path; a path below this package's root, as configs/pretrain/slotcon_r50_coco.py;
            a name, as slotcon_r50_coco or pretrain/slotcon_r50_coco; or the same after
            `slotcon_plugin::`. Of other packages: `mmdet::…`, as in `_base_`.

    A ConfigError gives similar names if there is no such file.
    """
    path, name = Path(config).expanduser(), str(config)
    if path.is_file():
        return path
    if "::" in name and not name.startswith(MARK):
        return _find_elsewhere(name)
    name = name.removeprefix(MARK).removeprefix("./").removeprefix("configs/")
    if name and (CONFIGS / name).is_file():  # also one that is only a base of others
        return CONFIGS / name
    known = config_names()
    parts = _without_suffix(Path(name)).parts
    for found in known.values():
        if parts and _without_suffix(found).parts[-len(parts) :] == parts:
            return found
    if path.exists():
        try:
            with open_regular(path):
                pass
        except (ValueError, OSError) as error:
            raise ConfigError(f"The config {config} cannot be read: {error}") from error
    beside = [other.name for other in path.parent.glob(f"*{path.suffix}") if other.is_file()]
    close = did_you_mean(Path(name).name, [*beside, *known])
    raise ConfigError(f"There is no config {config}.{close} `slotcon list` prints all names.")


def config_names() -> dict[str, Path]:
    """The files of this package's configs by their names, in the order of folders and names.

    Of two files of one name in a folder and in a folder in it, as detectron2's, the second one's
    name has its folder.
    """
    names: dict[str, Path] = {}
    for end in ("py", "yaml"):
        for file in sorted(CONFIGS.rglob(f"*.{end}")):
            if not NO_CONFIGS & {*file.relative_to(CONFIGS).parts}:
                name = f"{file.parent.name}/{file.stem}" if file.stem in names else file.stem
                names[name] = file
    return names


def _without_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".py", ".yaml", ".yml") else path


def _find_elsewhere(name: str) -> Path:
    try:
        return Path(_MMENGINES_SEARCH(name, "")[0])
    except Exception as error:  # of several types
        raise ConfigError(f"There is no config {name}: {error}") from error


_MMENGINES_SEARCH = Config._get_cfg_path


def _find_base(base: str, file: str) -> tuple[str, str | None]:
    """`Config._get_cfg_path` of MMEngine, which knows this package's configs too.

    Returns the path of an entry of `_base_` and the scope that all its dictionaries get. Ours get
    none: their names are in the root registries, and the Runner passes a scope of `collate_fn`
    on to that function as an argument.
    """
    if base.startswith(MARK):
        return str(find_config(base)), None
    return _MMENGINES_SEARCH(base, file)


def register_configs() -> None:
    """Let MMEngine find `slotcon_plugin::…` in `_base_` and in `mmengine.hub.get_config`."""
    Config._get_cfg_path = staticmethod(_find_base)
    # A module's name, not the distribution's: where Python finds it is right in a clone, and in an
    # editable installation, too.
    MODULE2PACKAGE[PACKAGE.name] = f"{PACKAGE.name}.version"
