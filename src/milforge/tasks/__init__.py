"""What a label means: one file a task."""

from milforge.tasks.auto import Auto
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.binary import Binary
from milforge.tasks.cox import Cox
from milforge.tasks.multi import Multi
from milforge.tasks.multiclass import Multiclass
from milforge.tasks.multilabel import Multilabel
from milforge.tasks.ordinal import Ordinal
from milforge.tasks.regression import Regression
from milforge.tasks.survival import Survival
from milforge.tasks.survival_discrete import SurvivalDiscrete
from milforge.tasks.weibull import Weibull

__all__ = [
    "Auto",
    "BagInWords",
    "Binary",
    "Columns",
    "Cox",
    "Multi",
    "Multiclass",
    "Multilabel",
    "Ordinal",
    "Regression",
    "Survival",
    "SurvivalDiscrete",
    "Task",
    "Weibull",
]
