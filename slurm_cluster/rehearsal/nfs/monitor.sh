#!/bin/bash
# Send a command to QEMU's monitor of a virtual machine that up.sh started.
#   slurm_cluster/rehearsal/nfs/monitor.sh FOLDER MACHINE COMMAND...
# set_link net off: pull its network cable; set_link net on: plug it in; system_reset: cut its power
# and switch it on again.
set -euo pipefail

root=$(realpath -m "$1")
python3 - "$root/run/$2.monitor" "${*:3}" <<'PY'
import socket, sys

PROMPT = b"(qemu) "
path, command = sys.argv[1:]


def answer():
    received = b""
    while not received.endswith(PROMPT):
        received += monitor.recv(4096)
    return received.removesuffix(PROMPT).decode(errors="replace")


with socket.socket(socket.AF_UNIX) as monitor:
    monitor.settimeout(30)
    monitor.connect(path)
    answer()
    monitor.sendall(command.encode() + b"\n")
    said = answer().partition("\n")[2].strip()  # after the echo of the command
if said.startswith("Error"):
    sys.exit(said)
print(said, end="\n" if said else "")
PY
