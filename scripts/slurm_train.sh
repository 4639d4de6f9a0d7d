#!/bin/bash
# One training run on SLURM, on any number of nodes. It is queued again when it is pre-empted or
# its time is up, and goes on from its last step:
#
#   sbatch --account=MINE --partition=gpu scripts/slurm_train.sh data=feature_bags data.root=FOLDER
#   sbatch --nodes=2 scripts/slurm_train.sh experiment=MINE
#
# A sweep needs no script: milforge-train -m launcher=submitit_slurm ... (docs/sweeps.md)
#SBATCH --job-name=milforge
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4 # one process a GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8 # loader.num_workers run on them too
#SBATCH --mem-per-cpu=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm_%j.out
#SBATCH --signal=USR1@300 # five minutes before the time is up: the run saves itself
set -euo pipefail

source .venv/bin/activate
# Without this one, sbatch's --cpus-per-task does not reach srun.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# A job that is queued again keeps its number, and so goes on in its folder.
case " $* " in
    *" run="*) ;;
    *) set -- "run=slurm_$SLURM_JOB_ID" "$@" ;;
esac
srun --kill-on-bad-exit=1 milforge-train trainer=ddp \
    "trainer.devices=$SLURM_NTASKS_PER_NODE" "trainer.num_nodes=$SLURM_NNODES" "$@"
