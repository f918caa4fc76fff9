#!/bin/bash
# Run a command of bash in a virtual machine that up.sh started; its output and its exit status.
#   slurm_cluster/rehearsal/nfs/on.sh FOLDER MACHINE COMMAND      MACHINE: server, node1, node2, ...
# SECONDS_AT_MOST (600): then the status is 124, and the command goes on.
set -euo pipefail

root=$(realpath -m "$1")
machine=$2
[ -e "$root/share/$machine/ready" ] || {
  echo "error: no machine '$machine' of $root is up" >&2
  exit 2
}
job=$(mktemp -u "$root/share/$machine/XXXXXXXX")
printf '%s\n' "$3" >"$job.new"
mv "$job.new" "$job.command"
give_up=$((SECONDS + ${SECONDS_AT_MOST:-600}))
until [ -e "$job.status" ]; do
  if [ "$SECONDS" -ge "$give_up" ]; then
    echo "error: no answer of '$machine'" >&2
    exit 124
  fi
  sleep 0.05
done
cat "$job.out"
cat "$job.err" >&2
status=$(cat "$job.status")
rm -f "$job".*
exit "$status"
