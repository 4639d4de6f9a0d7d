"""How Hydra composes the configs of tests."""

from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins

from milforge.config.messages import config_dir


def hide_local_config(patch):
    """What `configs/local` sets is true of one machine, and not of what is tested."""
    Plugins.instance()  # where it finds the sources, it makes their classes anew
    folders = SourcesRegistry.instance().resolve("file")
    look = folders.is_config

    def is_config(source, config_path):
        local = Path(source.path) == Path(config_dir()) and config_path.startswith("local/")
        return not local and look(source, config_path)

    patch.setattr(folders, "is_config", is_config)


def compose_once(patch):
    """No config of ours says `hydra.mode`: Hydra need not compose a second one to look for it."""
    look = Hydra.get_mode

    def get_mode(hydra, config_name, overrides):
        if any("hydra" in each for each in overrides):
            return look(hydra, config_name, overrides)
        return None

    patch.setattr(Hydra, "get_mode", get_mode)
