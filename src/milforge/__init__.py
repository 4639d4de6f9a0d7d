"""Attention-based deep multiple-instance learning: operators, models, data and commands.

Importing the package costs nothing: the parts are imported by name, `milforge.nn`,
`milforge.data` and so on.
"""

__version__ = "0.1.0"
