#!/bin/sh
# Process 1 of the virtual machine: mounts the host's tree read-only under a layer in memory, and goes there.
set -eu
busybox=/bin/busybox
$busybox mount -t proc proc /proc
while read -r module; do
    $busybox insmod "/modules/$module"
done < /modules/order

# Nothing on the host changes while this runs, or not what this reads: cache=loose keeps what was read.
$busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /lower
$busybox mount -t tmpfs -o size=75% tmpfs /upper
$busybox mkdir /upper/changes /upper/work
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work overlay /new

# The module loader of this kernel looks for its modules where it would on an installed system.
read -r modules < /modules/dir
$busybox mkdir -p /new/lib/modules
$busybox mount -o bind "/lower$modules" /new/lib/modules

$busybox mount -t devtmpfs devtmpfs /new/dev
$busybox mkdir -p /new/dev/pts /new/dev/shm
for link in fd=/proc/self/fd stdin=fd/0 stdout=fd/1 stderr=fd/2; do
    $busybox ln -s "${link#*=}" "/new/dev/${link%%=*}"
done
$busybox mount -t devpts devpts /new/dev/pts
$busybox mount -t tmpfs tmpfs /new/dev/shm
$busybox mount -t sysfs sysfs /new/sys
# The host's sockets and namespaces mean nothing here.
$busybox mount -t tmpfs tmpfs /new/run
$busybox cp /stage2.sh /command.sh /bin/busybox /new/run/
$busybox mount --move /proc /new/proc
# Not forked, so that the kernel's own threads go along and find modprobe.
exec $busybox switch_root /new /bin/sh /run/stage2.sh
