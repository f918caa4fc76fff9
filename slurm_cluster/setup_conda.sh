#!/bin/bash
#SBATCH --job-name=setup-conda
#SBATCH --output=%x-%j.out
#SBATCH --time=01:00:00
#
# Build the conda environment of environment.yml, or bring it up to date:
#   sbatch setup_conda.sh   or   bash setup_conda.sh
# CONDA_ENVIRONMENT names it (cifar10-sweep unless set).

set -euo pipefail
for root in "${SLURM_SUBMIT_DIR:-}" "${SLURM_SUBMIT_DIR:-}/.." "$(dirname "${BASH_SOURCE[0]}")/.."; do
  [ -f "$root/environment.yml" ] && break
done
cd "$root"
conda=${CONDA_EXE:-$(command -v conda || true)}
if [ -z "$conda" ]; then
  echo "error: no conda on this machine: load its module or set CONDA_EXE; without conda, 'make setup' does" >&2
  exit 2
fi
exec "$conda" env update --prune --file environment.yml --name "${CONDA_ENVIRONMENT:-cifar10-sweep}"
