"""How Hydra composes the configs of tests."""

import pickle
from pathlib import Path

from hydra._internal.config_repository import CachingConfigRepository
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

    def get_mode(hydra, config_name, overrides, **parsed):  # of Hydra 1.4
        if any("hydra" in each for each in overrides):
            return look(hydra, config_name, overrides, **parsed)
        return None

    patch.setattr(Hydra, "get_mode", get_mode)


def read_once(patch):
    """Files of `configs` are parsed once in a process: that is a third of a composition."""
    load, kept = CachingConfigRepository.load_config, {}
    folder = f"file://{config_dir()}"

    def load_config(repository, config_path):
        key = f"config_path={config_path}"
        if key in repository.cache:
            return repository.cache[key]
        # Only where no folder of the test comes before it.
        places = [f"{each.scheme()}://{each.path}" for each in repository.get_sources()]
        if places[:2] != ["pkg://hydra.conf", folder]:
            return load(repository, config_path)
        if config_path in kept:
            # A composition changes what it is given. This is the fastest way to copy it.
            repository.cache[key] = pickle.loads(kept[config_path])
            return repository.cache[key]
        found = load(repository, config_path)
        if found is not None and found.path == folder:
            kept[config_path] = pickle.dumps(found)
        return found

    patch.setattr(CachingConfigRepository, "load_config", load_config)
