#!/bin/bash
#SBATCH --job-name=cifar10
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#
# Train one run:
#   sbatch run_cluster.sh EPOCHS BATCH MODEL SCHEDULER AUG LR WD GAMMA [flags of src/main.py]
#   sbatch run_cluster.sh 50 64 resnet step True 0.001 0.0001 0.97
# from the repository or from slurm_cluster/, under sbatch or plain bash, with conda or .venv.
# A job that is preempted, or warned of its time limit, saves its run, is requeued and goes on.

usage() {
  echo "error: $1; usage: run_cluster.sh EPOCHS BATCH MODEL SCHEDULER AUG LR WD GAMMA [flags]" >&2
  exit 2
}
[ $# -ge 8 ] || usage "$# arguments, expected at least 8"
case $5 in
  True | true) augmentation=--data_augmentation ;;
  False | false) augmentation=--no_data_augmentation ;;
  *) usage "AUG '$5', expected True or False" ;;
esac

# The repository that this file belongs to. sbatch runs a copy of it: then Slurm knows the original,
# and else it is looked for where the job was submitted.
original=
[ -n "${SLURM_JOB_ID:-}" ] && original=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null |
  sed -n 's/^ *Command=//p' | head -n 1)
for root in "$(dirname "${BASH_SOURCE[0]}")/.." "${original%%/slurm_cluster/run_cluster.sh*}" \
  "${SLURM_SUBMIT_DIR:-.}" "${SLURM_SUBMIT_DIR:-.}/.."; do
  [ -f "$root/slurm_cluster/environment.sh" ] && break
done
if [ ! -f "$root/slurm_cluster/environment.sh" ]; then
  echo "error: run_cluster.sh is not in a repository; submit it from the repository or slurm_cluster/" >&2
  exit 2
fi
# shellcheck source=slurm_cluster/environment.sh
. "$root/slurm_cluster/environment.sh" || exit 2

exec python -u src/main.py -e "$1" -b "$2" -m "$3" -s "$4" "$augmentation" -l "$6" -w "$7" -g "$8" "${@:9}"
