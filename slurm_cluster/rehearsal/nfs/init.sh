#!/bin/busybox sh
# The first process of a virtual machine: modules, network, a root of its own on this machine's.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
for word in $(cat /proc/cmdline); do
  case $word in
    machine=*) machine=${word#*=} ;;
    address=*) address=${word#*=} ;;
  esac
done
hostname "$machine"
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up

# every folder of this machine's root, read-only, in a file system of the machine's own
plan9=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "$plan9,ro,cache=loose" root /host
mount -t tmpfs -o mode=755 root /root
for entry in /host/*; do
  name=${entry##*/}
  case $name in proc | sys | dev | run | nfs | share | exported | state) continue ;; esac
  if [ -L "$entry" ]; then
    cp -P "$entry" "/root/$name"
  elif [ -d "$entry" ]; then
    mkdir "/root/$name"
    mount -o bind "$entry" "/root/$name"
  fi
done
cd /root && mkdir proc sys dev run nfs share exported state
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -o bind /dev /root/dev
ln -s /proc/self/fd /dev/fd
mkdir /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /root/run
mount -t 9p -o "$plan9,rw,cache=none" share /root/share
exec chroot /root /bin/bash -c '. /share/settings && exec bash "$scripts/machine.sh"'
