"""What a label means: one file a task."""

from milforge.tasks.auto import Auto
from milforge.tasks.base import BagInWords, Columns, Task
from milforge.tasks.classes.binary import Binary
from milforge.tasks.classes.multiclass import Multiclass
from milforge.tasks.classes.multilabel import Multilabel
from milforge.tasks.classes.ordinal import Ordinal
from milforge.tasks.multi import Multi
from milforge.tasks.regression import Regression
from milforge.tasks.time_to_event.cox import Cox
from milforge.tasks.time_to_event.survival import Survival
from milforge.tasks.time_to_event.survival_discrete import SurvivalDiscrete
from milforge.tasks.time_to_event.weibull import Weibull

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
