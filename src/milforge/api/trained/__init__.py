"""What is done with trained models: evaluation, prediction, averages, calibration."""
