"""How Hydra composes the configs of tests."""

import functools
import pickle
from dataclasses import replace
from pathlib import Path

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import _utils, base, grammar_parser

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


def merge_once(patch):
    """Files that are merged already, because the same groups were chosen before, are copied.

    What a command line says of values is set afterwards, by Hydra, each time. Other commands than
    `milforge-train` merge what a checkpoint holds, too.
    """
    choose, merge = (
        config_loader_impl.create_defaults_list,
        (ConfigLoaderImpl._compose_config_from_defaults_list),
    )
    chosen, merged = {}, {}

    def create_defaults_list(repo, config_name, overrides_list, **options):
        single = [each for each in overrides_list if not each.is_sweep_override()]
        values = [each for each in single if not repo.group_exists(each.key_or_group)]
        groups = [each.input_line for each in single if each not in values]
        sources = [f"{each.scheme()}://{each.path}" for each in repo.get_sources()]
        ours = [each for each in sources if each.startswith("file:")] == [f"file://{config_dir()}"]
        if config_name != "train" or not ours:
            return choose(repo, config_name, overrides_list, **options)
        repo.chosen = (config_name, *sources, *groups, *options.items())
        if repo.chosen in chosen:
            known = pickle.loads(chosen[repo.chosen])
            return replace(known, config_overrides=values)
        found = choose(repo, config_name, overrides_list, **options)
        if found.config_overrides == values:  # else the value of a group was a dictionary
            found.overrides.config_overrides = []
            chosen[repo.chosen] = pickle.dumps(replace(found, config_overrides=[]))
        return found

    def compose(loader, defaults, repo):
        key = getattr(repo, "chosen", None)
        if key in merged:
            return pickle.loads(merged[key])
        config = merge(loader, defaults=defaults, repo=repo)
        if key in chosen:
            merged[key] = pickle.dumps(config)
        return config

    patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose)


def parse_once(patch):
    """What `${...}` means is read out of the parsed text, which nothing changes."""
    parse = functools.lru_cache(maxsize=None)(grammar_parser.parse)
    patch.setattr(base, "parse", parse)
    patch.setattr(_utils, "parse", parse)
