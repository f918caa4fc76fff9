#!/bin/bash
# In the server: start it, and what may befall a server.
#   server.sh boot      everything, with the file system as it was before a power cut
#   server.sh restart   nfsd forgets its sessions and which requests it has answered
#   server.sh stop | start           the same in two steps
#   server.sh withdraw | export      meanwhile every request is refused (ESTALE, or EACCES in NFS 4)
#   server.sh fill | free            meanwhile there is no space left
#   server.sh renew     the same files on another file system, where old handles stay stale
set -euo pipefail

exported=/exported
state=/state

start() {
  # the shortest times that nfsd takes; it waits less if all clients have come back
  rpc.nfsd --grace-time 10 --lease-time 10 4
}
stop() {
  rpc.nfsd 0
}
export_it() {
  exportfs -o rw,sync,no_root_squash,no_subtree_check,fsid=0 "*:$exported"
}
withdraw() {
  exportfs -u "*:$exported"
  exportfs -f
}
boot() {
  mount /dev/vda "$exported"
  mount /dev/vdb "$state"
  chmod 1777 "$exported"
  mkdir -p "$state"/{nfsdcld,v4recovery,sm,sm.bak}
  rm -f "$state"/{etab,rmtab}
  touch "$state"/{etab,rmtab}
  mount -o bind "$state" /var/lib/nfs
  mkdir -p /run/rpc_pipefs
  mount -t rpc_pipefs pipefs /run/rpc_pipefs
  mount -t nfsd nfsd /proc/fs/nfsd
  rpcbind -w
  # remembers the clients: with it a grace period ends when all of them have come back
  nfsdcld --pipefsdir=/run/rpc_pipefs --storagedir="$state/nfsdcld"
  export_it
  start
  rpc.mountd
}
fill() { # to the last block
  fallocate -l "$(df --output=avail -B 1 "$exported" | tail -n 1)" "$exported/.ballast" 2>/dev/null ||
    dd if=/dev/zero of="$exported/.ballast" bs=64k oflag=append conv=notrunc status=none || true
  dd if=/dev/zero of="$exported/.ballast" bs=1k oflag=append conv=notrunc status=none 2>/dev/null || true
}
renew() {
  stop
  withdraw
  local copy=/run/copy
  mkdir "$copy"
  cp -a "$exported/." "$copy"
  umount "$exported"
  mkfs.ext4 -q -F -m 0 /dev/vda
  mount /dev/vda "$exported"
  # other inodes than before
  mkdir "$exported/.others" && touch "$exported/.others/"{1..500}
  cp -a "$copy/." "$exported"
  rm -r "$exported/.others" "$copy"
  sync # clients have been told that everything is on the disk
  export_it
  start
}

case ${1:-} in
  restart)
    stop
    start
    ;;
  export) export_it ;;
  free) rm -f "$exported/.ballast" ;;
  boot | start | stop | withdraw | fill | renew) "$1" ;;
  *)
    echo "error: '${1:-}': expected one of boot, restart, stop, start, withdraw, export, fill, free, renew" >&2
    exit 2
    ;;
esac
