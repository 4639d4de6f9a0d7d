"""Where a run is followed beside its folder: W&B, TensorBoard, MLflow, Trackio."""

from milforge.trackers.mlflow import MLflow
from milforge.trackers.patient import Patient
from milforge.trackers.trackio import Trackio

__all__ = ["MLflow", "Patient", "Trackio"]
