# shellcheck shell=bash
# Sourced by the job scripts: go to the repository and put the right python first on PATH.
# The conda environment named by CONDA_ENVIRONMENT (cifar10-sweep unless set) if there is one,
# else .venv, else the python that is there.

# Until python listens, the warning of a preemption must not kill the shell: that would fail the
# job, while a job that waits to be killed is requeued.
[ -n "${SLURM_JOB_ID:-}" ] && trap '' USR1 TERM

CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." || return 1
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} # before what another checkout has put there

conda_environment=${CONDA_ENVIRONMENT:-cifar10-sweep}
conda=${CONDA_EXE:-$(command -v conda || true)}
if [ -n "$conda" ] && "$conda" env list 2>/dev/null | grep -qE "^${conda_environment}[[:space:]]"; then
  eval "$("$conda" shell.bash hook)"
  conda activate "$conda_environment" || return 1
elif [ -x .venv/bin/python ]; then
  PATH=$PWD/.venv/bin:$PATH
elif ! command -v python >/dev/null; then
  echo "error: no python: run 'make setup' or slurm_cluster/setup_conda.sh first" >&2
  return 1
fi

# torch takes a thread for every core of the node, not for every core of the job
[ -n "${SLURM_CPUS_PER_TASK:-}" ] && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}

# A job that is stopped asks Slurm to run it again, if this is its batch script: SLURM_TASK_PID is
# the process that Slurm started, and steps of srun have an id. In a job that somebody uses for more
# than this (a notebook, an editor, salloc) it would kill their session. A batch script of your own
# that calls ours may export REQUEUE_ON_STOP=1.
if [ "${SLURM_TASK_PID:-}" = "$$" ] && [ -z "${SLURM_STEP_ID:-}" ]; then
  export REQUEUE_ON_STOP=1
fi
requeued=${REQUEUE_ON_STOP:+yes}
echo "$(date '+%F %T') job ${SLURM_JOB_ID:-none} (restart ${SLURM_RESTART_COUNT:-0}," \
  "requeued when stopped: ${requeued:-no}) on $(hostname), GPUs: ${CUDA_VISIBLE_DEVICES:-all}:" \
  "$(command -v python)" >&2
