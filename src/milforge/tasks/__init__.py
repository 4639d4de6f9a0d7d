"""What a label means: one file a task."""

from milforge.tasks.auto import Auto
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.binary import Binary
from milforge.tasks.multiclass import Multiclass
from milforge.tasks.multilabel import Multilabel
from milforge.tasks.regression import Regression

__all__ = [
    "Auto",
    "BagInWords",
    "Binary",
    "Columns",
    "Multiclass",
    "Multilabel",
    "Regression",
    "Task",
]
