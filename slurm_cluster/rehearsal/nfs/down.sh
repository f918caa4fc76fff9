#!/bin/bash
# Stop the virtual machines that up.sh started: exactly the processes that it recorded.
#   slurm_cluster/rehearsal/nfs/down.sh [FOLDER]
set -u

root=$(realpath -m "${1:-/tmp/nfs-rehearsal}")
pids=$root/run/pids
if [ ! -f "$pids" ]; then
  echo "no machines in $root" >&2
  exit 0
fi

ours() { # PID: whether that process still is one of these machines
  { tr "\0" " " <"/proc/$1/cmdline"; } 2>/dev/null | grep -qF "qemu-system-x86_64 -name rehearsal-" &&
    tr "\0" " " <"/proc/$1/cmdline" | grep -qF "$root/run/"
}
stop() { # SIGNAL: to every machine that is left
  left=0
  while read -r _ pid; do
    if ours "$pid"; then
      left=1
      kill "-$1" "$pid" 2>/dev/null
    fi
  done <"$pids"
  return $left
}

stop TERM
for _ in $(seq 100); do
  stop 0 && break
  sleep 0.1
done
stop KILL
rm -f "$pids"
