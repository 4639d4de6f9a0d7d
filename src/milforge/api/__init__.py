"""MilForge from Python, without the command line; a notebook will do.

>>> import milforge  # doctest: +SKIP
>>> config = milforge.compose("train", ["model=sm_abmil", "graph=grid"])  # doctest: +SKIP
>>> run = milforge.fit(config)  # doctest: +SKIP
>>> milforge.load(run.folder).predict(bags).to_pandas()  # doctest: +SKIP
"""

from milforge.api.compose import compose, with_folder
from milforge.api.launch import Launch

__all__ = ["Launch", "compose", "with_folder"]
