#!/bin/bash
# In a node: mount the server's file system at /nfs, or unmount it.
#   node.sh mount VERSION | unmount
set -euo pipefail

. /share/settings
server=10.0.9.1

case ${1:-} in
  mount)
    # without a lock manager, which needs a daemon more and which nobody here uses
    case $2 in
      3) what=$server:/exported more=vers=3,nolock ;;
      *) what=$server:/ more=vers=$2 ;;
    esac
    [ ! -e /run/rpc_pipefs ] && mkdir /run/rpc_pipefs && mount -t rpc_pipefs pipefs /run/rpc_pipefs
    until [ -e /share/server/ready ]; do sleep 0.2; done
    # shellcheck disable=SC2154  # from the settings
    mount -t nfs -o "$more,proto=tcp${options:+,$options}" "$what" /nfs
    grep ' /nfs nfs' /proc/mounts
    ;;
  unmount) umount /nfs ;;
  *)
    echo "error: '${1:-}': expected mount VERSION or unmount" >&2
    exit 2
    ;;
esac
