#!/bin/bash
# Stop the cluster that up.sh started: exactly the processes that it recorded.
#   slurm_cluster/rehearsal/down.sh [FOLDER]
set -u

root=$(realpath -m "${1:-/tmp/slurm-rehearsal}")
pids=$root/run/pids
if [ ! -f "$pids" ]; then
  echo "no cluster in $root" >&2
  exit 0
fi

ours() { # PID: whether that process still is one of this cluster's
  { tr "\0" " " <"/proc/$1/cmdline"; } 2>/dev/null | grep -qE "^[^ ]*(munged|mariadbd|slurmdbd|slurmctld|slurmd) "
}
stop() { # SIGNAL: to every process that is left, the last one started first
  left=0
  while read -r _ pid; do
    if ours "$pid"; then
      left=1
      kill "-$1" "$pid" 2>/dev/null
    fi
  done < <(tac "$pids")
  return $left
}

# the jobs first: a slurmd that is stopped leaves them running
if [ -f "$root/env.sh" ]; then
  # shellcheck source=/dev/null
  . "$root/env.sh"
  timeout 10 scancel --quiet --partition=gpu,urgent --state=RUNNING 2>/dev/null
  for _ in $(seq 60); do
    [ -z "$(timeout 10 squeue --noheader --states=RUNNING,COMPLETING 2>/dev/null)" ] && break
    sleep 0.2
  done
fi
stop TERM
for _ in $(seq 100); do
  stop 0 && break
  sleep 0.1
done
stop KILL
rm -f "$pids"
