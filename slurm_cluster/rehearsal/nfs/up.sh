#!/bin/bash
# Start a real NFS on this one machine, to rehearse on: a server, and nodes that mount it.
#
#   slurm_cluster/rehearsal/nfs/up.sh [FOLDER [NODES [VERSION]]]   default: /tmp/nfs-rehearsal, 2, 4.2
#   slurm_cluster/rehearsal/nfs/on.sh FOLDER node1 COMMAND         run a command of bash in a node
#   slurm_cluster/rehearsal/nfs/on.sh FOLDER server 'server.sh restart'
#   slurm_cluster/rehearsal/nfs/monitor.sh FOLDER node1 set_link net off   pull its network cable
#   slurm_cluster/rehearsal/nfs/down.sh [FOLDER]
#
# Needs root and Debian's packages: qemu-system-x86 linux-image-amd64 busybox-static cpio kmod
# nfs-kernel-server nfs-common rpcbind.
# Server and nodes are virtual machines of QEMU with Debian's kernel, in a network of their own.
# The server is Linux's nfsd, which exports an ext4 file system as NFS 3 and NFS 4.2, with `sync`.
# A node has it at /nfs. Everything else is this machine's root, read-only, but for /run and
# /dev/shm in the node's memory and /share, which is FOLDER/share. VERSION is 3 or 4.2.
#
# ACCELERATOR (tcg): tcg emulates the processor; kvm is faster, where it works.
# MEMORY (768): MiB of each machine. SIZE (256): MiB of the exported file system.
# OPTIONS: further options of the mount.
set -euo pipefail

root=$(realpath -m "${1:-/tmp/nfs-rehearsal}")
nodes=${2:-2}
version=${3:-4.2}
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
packages="qemu-system-x86 linux-image-amd64 busybox-static cpio kmod nfs-kernel-server nfs-common rpcbind"

fail() {
  echo "error: $1" >&2
  exit 2
}
[[ $nodes =~ ^[1-9][0-9]?$ ]] || fail "NODES '$nodes': expected 1 to 99"
[[ $version =~ ^(3|4\.2)$ ]] || fail "VERSION '$version': expected 3 or 4.2"
[ "${#root}" -le 70 ] || fail "FOLDER '$root': expected at most 70 characters, as sockets go there"
[ ! -s "$root/run/pids" ] || fail "machines of $root are up already, or were not taken down: run down.sh"
if [ -n "$(ls -A "$root" 2>/dev/null)" ] && [ ! -e "$root/share/settings" ]; then
  fail "FOLDER '$root' holds something else: expected an empty or a new one"
fi
PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-x86_64 busybox cpio modprobe mkfs.ext4 rpc.nfsd rpc.mountd exportfs mount.nfs rpcbind; do
  command -v "$program" >/dev/null || fail "no $program: apt-get install $packages"
done
[ "$(id -u)" = 0 ] || fail "user $(id -un): expected root, whose files the machines read"
modules() { # KERNEL NAME...: the files of modules and of what they need, in the order to load them
  for name in "${@:2}"; do modprobe --set-version "$1" --show-depends "$name" || return; done |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
kernel=
for file in $(printf '%s\n' /boot/vmlinuz-* | sort -Vr); do # the newest that can do it
  if modules "${file#*vmlinuz-}" nfsd 9p &>/dev/null; then
    kernel=${file#*vmlinuz-}
    break
  fi
done
[ -n "$kernel" ] || fail "no kernel with nfsd and 9p in /boot: apt-get install $packages"

rm -rf "$root"
mkdir -p "$root"/{log,run,share,initrd}
: >"$root/run/pids"
trap '"$here/down.sh" "$root"; tail -n 5 "$root"/log/* >&2; fail "the machines did not start"' ERR

# the first file system: busybox, the modules in the order of their dependencies, init.sh
mkdir -p "$root"/initrd/{bin,proc,sys,dev,modules,host,root}
cp "$(command -v busybox)" "$root/initrd/bin/busybox"
cp "$here/init.sh" "$root/initrd/init"
number=100
modules "$kernel" virtio_pci virtio_net virtio_blk 9p 9pnet_virtio ext4 nfs nfsv3 nfsv4 nfsd sch_netem \
  >"$root/run/modules"
while read -r file; do
  number=$((number + 1))
  cp "$file" "$root/initrd/modules/$number-${file##*/}"
done <"$root/run/modules"
(cd "$root/initrd" && find . | cpio --quiet -o -H newc | gzip -1) >"$root/run/initrd.gz"
rm -r "$root/initrd"

{ # read by every machine
  echo "# of the machines of $root"
  printf '%s=%q\n' scripts "$here" version "$version" options "${OPTIONS:-}"
} >"$root/share/settings"
# the file system, and beside it what nfsd knows of its clients: that outlives its power cuts
make_disk() { # NAME MIB
  truncate -s "$2M" "$root/run/$1.disk"
  mkfs.ext4 -q -m 0 -E root_owner=0:0 "$root/run/$1.disk"
}
make_disk exported "${SIZE:-256}"
make_disk state 16

# the machines are on one Ethernet: a multicast address of the loopback device, at a free port
port=$(python3 - <<'PY'
import random, socket

for port in random.sample(range(20000, 30000), 100):
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            continue
        print(port)
        break
PY
)

boot() { # NAME, last number of its address, further options of QEMU
  mkdir -p "$root/share/$1"
  local cpu=max
  [ "${ACCELERATOR:-tcg}" = tcg ] || cpu=host
  setsid qemu-system-x86_64 -name "rehearsal-$1" -accel "${ACCELERATOR:-tcg}" -cpu "$cpu" -smp 1 \
    -m "${MEMORY:-768}" -nodefaults -display none -serial "file:$root/log/$1.console" \
    -monitor "unix:$root/run/$1.monitor,server=on,wait=off" \
    -kernel "/boot/vmlinuz-$kernel" -initrd "$root/run/initrd.gz" \
    -append "console=ttyS0 quiet mitigations=off panic=0 random.trust_cpu=on machine=$1 address=10.0.9.$2" \
    -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
    -virtfs "local,path=$root/share,mount_tag=share,security_model=none" \
    -netdev "socket,id=net,mcast=230.0.0.9:$port,localaddr=127.0.0.1" \
    -device "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:09:$(printf %02x "$2")" \
    "${@:3}" >>"$root/log/$1.qemu" 2>&1 </dev/null &
  echo "$1 $!" >>"$root/run/pids"
}
disk=if=virtio,format=raw,cache=unsafe
boot server 1 -drive "file=$root/run/exported.disk,$disk" -drive "file=$root/run/state.disk,$disk"
for n in $(seq "$nodes"); do boot "node$n" $((10 + n)); done

until_ready() { # MACHINE PID: for at most PATIENCE_SECONDS (180)
  for _ in $(seq $((5 * ${PATIENCE_SECONDS:-180}))); do
    [ ! -e "$root/share/$1/ready" ] || return 0
    kill -0 "$2" || return
    sleep 0.2
  done
  echo "gave up waiting for: $1" >&2
  return 1
}
while read -r name pid; do until_ready "$name" "$pid"; done <"$root/run/pids"
trap - ERR
echo "a server and $nodes nodes, NFS $version; to use them:  $here/on.sh $root node1 'ls -la /nfs'"
