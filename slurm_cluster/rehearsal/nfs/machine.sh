#!/bin/bash
# In a virtual machine: start what it is for, then run the commands that on.sh leaves for it.
set -u

. /share/settings
# shellcheck disable=SC2154  # from the settings
export PATH=$scripts:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
name=$(hostname)
commands=/share/$name

if [ "$name" = server ]; then server.sh boot; else node.sh mount "$version"; fi && touch "$commands/ready"

mkfifo /run/never
exec 9<>/run/never
while :; do
  for file in "$commands"/*.command; do
    [ -e "$file" ] || continue
    job=${file%.command}
    mv "$file" "$job.running"
    {
      bash "$job.running" >"$job.out" 2>"$job.err"
      echo $? >"$job.ended"
      mv "$job.ended" "$job.status" # whole from the moment on.sh sees it
    } </dev/null 9>&- &
  done
  read -rt 0.3 -u 9 # a pause without a process
done
