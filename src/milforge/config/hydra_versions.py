"""What Hydra 1.3 and 1.4 do not take alike; the rest of the commands need not know which it is."""

import sys
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_TAKES_WHITELIST = "execution_whitelist" in signature(hydra.main).parameters  # 1.4
# For all that composes a config: 1.3 warns where it is missing, 1.4 where it is given.
VERSION_BASE: dict[str, Any] = {} if _TAKES_WHITELIST else {"version_base": "1.3"}
# For `hydra.main`: what it makes of a config itself is what it calls where a sweep begins and ends.
MAIN: dict[str, Any] = (
    {"execution_whitelist": ("milforge.*", "hydra.*")} if _TAKES_WHITELIST else VERSION_BASE
)
# Of Python's own modules a config names nothing but these, which only hold a value.
VALUES = ("collections.OrderedDict", "datetime.timedelta", "pathlib.Path")


def store_config(name: str, node: Any) -> None:
    """Makes a config known to Hydra, in place of one of that name."""
    store = ConfigStore.instance().store
    options: dict[str, Any] = {"replace": True} if "replace" in signature(store).parameters else {}
    store(name=name, node=node, **options)


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Makes a resolver known to OmegaConf, in place of one of that name."""
    register: Callable[..., None] = OmegaConf.register_resolver
    if "replace" not in signature(register).parameters:  # another one, of OmegaConf 1
        register = OmegaConf.register_new_resolver
    register(name, resolver, replace=True)


def instantiate(config: DictConfig, **kwargs: Any) -> Any:
    """Hydra's `instantiate`, with the whitelist that 1.4 asks for.

    Raises:
        InstantiationException: where a class fails on its values; those errors that say what is
            wrong, `ValueError` and `OSError`, 1.4 raises as they are.
    """
    if "_execution_whitelist_" in signature(hydra_instantiate).parameters:
        kwargs["_execution_whitelist_"] = whitelist(config)
    try:
        return hydra_instantiate(config, **kwargs)
    except (HydraException, OmegaConfBaseException, ValueError, OSError):
        raise
    except Exception as error:  # as 1.3 has it; 1.4 puts the key of the config into a note
        cause = f"{type(error).__name__}: {error}"
        lines = [cause, *getattr(error, "__notes__", ())]
        raise InstantiationException("\n".join(lines)) from error


def whitelist(config: DictConfig) -> tuple[str, ...]:
    """Patterns of what a config may call: all but Python's own modules.

    The classes of a user's own package need no further word, since the config is the user's: this
    is no judge of a config that is not. What a pattern lets through under another name, such as
    `torch.os.system`, Hydra refuses by what it is.

    Example:
        >>> patterns = whitelist(OmegaConf.create({"a": {"_target_": "mine.Pool"}}))
        >>> [each in patterns for each in ("mine.*", "milforge.*", "os.*", "builtins.*")]
        [True, True, False, False]
    """
    # Those that are loaded, too: a function of one package may return a network of another.
    names = {each.partition(".")[0] for each in (*_targets(config), *sys.modules)}
    names = {each for each in names - sys.stdlib_module_names if each.isidentifier()}
    return (*VALUES, *(f"{each}.*" for each in sorted(names)))


def _targets(node: Any) -> Iterator[str]:
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=False)
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)
