#!/bin/bash
# A sweep as a SLURM array, without a launcher: task i trains fold i in a run of its own. Each is
# queued again when it is pre-empted or its time is up, and goes on in its folder:
#
#   sbatch --array=0-4 --account=MINE --partition=gpu scripts/recipes/slurm_array.sh \
#       data=feature_bags data.root=FOLDER data.labels=labels.csv
#   milforge-report logs/train/runs/cv_*
#
#SBATCH --job-name=milforge-cv
#SBATCH --nodes=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm_%A_%a.out
#SBATCH --signal=B:TERM@300 # five minutes before the time is up: the run saves itself
set -euo pipefail

source .venv/bin/activate
# The run gets the signal, saves itself and ends; then the task is queued again.
milforge-train trainer=gpu "split.fold=$SLURM_ARRAY_TASK_ID" "run=cv_$SLURM_ARRAY_TASK_ID" "$@" &
training=$!
trap 'kill -TERM $training; wait $training || true; scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"' TERM
wait $training
