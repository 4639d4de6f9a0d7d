"""What happens beside training: predictions, figures, diagnostics, progress."""

from milforge.callbacks.best_epoch import BestEpoch
from milforge.callbacks.dashboard import Dashboard
from milforge.callbacks.figures import FigureWriter
from milforge.callbacks.interruption import Interruption
from milforge.callbacks.mapping.maps import MapWriter
from milforge.callbacks.predictions import PredictionWriter
from milforge.callbacks.progress import progress
from milforge.callbacks.records import BagRecord, RecordCollector
from milforge.callbacks.sampling_figures import SamplingFigures
from milforge.callbacks.smoothing import SmoothingMonitor

__all__ = [
    "BagRecord",
    "BestEpoch",
    "Dashboard",
    "FigureWriter",
    "Interruption",
    "MapWriter",
    "PredictionWriter",
    "RecordCollector",
    "SamplingFigures",
    "SmoothingMonitor",
    "progress",
]
