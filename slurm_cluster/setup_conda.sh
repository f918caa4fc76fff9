#!/bin/bash
#SBATCH --job-name=setup-conda
#SBATCH --output=%x-%j.out
#SBATCH --time=01:00:00
#
# Build the conda environment of environment.yml, or bring it up to date:
#   sbatch setup_conda.sh   or   bash setup_conda.sh
# CONDA_ENVIRONMENT names it (cifar10-sweep unless set).

set -euo pipefail
# The repository that this file belongs to. sbatch runs a copy of it: then Slurm knows the original,
# and else it is looked for where the job was submitted.
original=
[ -n "${SLURM_JOB_ID:-}" ] && original=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null |
  sed -n 's/^ *Command=//p' | head -n 1) || true
for root in "$(dirname "${BASH_SOURCE[0]}")/.." "${original%%/slurm_cluster/setup_conda.sh*}" \
  "${SLURM_SUBMIT_DIR:-.}" "${SLURM_SUBMIT_DIR:-.}/.."; do
  [ -f "$root/environment.yml" ] && break
done
if [ ! -f "$root/environment.yml" ]; then
  echo "error: setup_conda.sh is not in a repository; submit it from the repository or slurm_cluster/" >&2
  exit 2
fi
CDPATH='' cd "$root"
conda=${CONDA_EXE:-$(command -v conda || true)}
if [ -z "$conda" ]; then
  echo "error: no conda on this machine: load its module or set CONDA_EXE; without conda, 'make setup' does" >&2
  exit 2
fi
exec "$conda" env update --prune --file environment.yml --name "${CONDA_ENVIRONMENT:-cifar10-sweep}"
