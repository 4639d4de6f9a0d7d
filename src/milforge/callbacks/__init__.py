"""What happens beside training: predictions, figures, progress."""

from milforge.callbacks.figures import FigureWriter
from milforge.callbacks.predictions import PredictionWriter
from milforge.callbacks.progress import progress
from milforge.callbacks.records import BagRecord, RecordCollector

__all__ = ["BagRecord", "FigureWriter", "PredictionWriter", "RecordCollector", "progress"]
