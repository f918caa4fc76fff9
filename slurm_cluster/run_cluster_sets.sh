#!/bin/bash
#SBATCH --job-name=cifar10-set
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#
# Train the runs of a set file, hyperparameter_sets/hyperparameters_N.txt, in one process:
#   sbatch run_cluster_sets.sh N [flags of python -m src.sweep work]
#   sbatch --array=1-18 run_cluster_sets.sh
# from the repository or from slurm_cluster/, under sbatch or plain bash, with conda or .venv.
# What is done is not trained again. A job that is preempted, or warned of its time limit, saves
# the run it is at, is requeued and goes on.

case ${1:-} in
  '' | -*) # no number of its own: that of the array task
    if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
      echo "error: no set number; usage: run_cluster_sets.sh N, or sbatch --array=1-18 run_cluster_sets.sh" >&2
      exit 2
    fi
    set -- "$SLURM_ARRAY_TASK_ID" "$@"
    ;;
esac

# The repository that this file belongs to. sbatch runs a copy of it: then Slurm knows the original,
# and else it is looked for where the job was submitted.
original=
[ -n "${SLURM_JOB_ID:-}" ] && original=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null |
  sed -n 's/^ *Command=//p' | head -n 1)
for root in "$(dirname "${BASH_SOURCE[0]}")/.." "${original%%/slurm_cluster/run_cluster_sets.sh*}" \
  "${SLURM_SUBMIT_DIR:-.}" "${SLURM_SUBMIT_DIR:-.}/.."; do
  [ -f "$root/slurm_cluster/environment.sh" ] && break
done
if [ ! -f "$root/slurm_cluster/environment.sh" ]; then
  echo "error: run_cluster_sets.sh is not in a repository; submit it from the repository or slurm_cluster/" >&2
  exit 2
fi
# shellcheck source=slurm_cluster/environment.sh
. "$root/slurm_cluster/environment.sh" || exit 2

exec python -u -m src.sweep work "$@"
