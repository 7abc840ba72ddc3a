#!/bin/sh
# /init of a target VM: a read-only root under a tmpfs overlay, then boot.sh as PID 1. The root has no mount and no ip of
# its own, so both are done here. /world.* are the files of demo/world/image.py and, per target, of demo/world/target.py.
B=/bin/busybox
$B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys
for m in /m/*.ko; do $B insmod "$m"; done
n=0; while [ ! -b /dev/vdb ] && [ $n -lt 5000 ]; do $B usleep 2000; n=$((n+1)); done
$B mount -t erofs -o ro /dev/vda /lower || { echo "target: no root image" >/dev/console; $B poweroff -f; }
$B mount -t tmpfs -o size=32m,mode=755 rw /rw
$B mkdir /rw/u /rw/w
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/u,workdir=/rw/w overlay /newroot
$B mount -t tmpfs -o mode=1777,nosuid,nodev,size=16m tmp /newroot/tmp
$B mount -t tmpfs -o mode=755,nosuid,nodev,size=8m run /newroot/run
$B mount -t ext4 -o noatime,nosuid,nodev,noexec /dev/vdb /newroot/srv || $B echo "target: no data disk" >/dev/console
$B mkdir /newroot/run/world
for f in /world.*; do $B cp -p "$f" "/newroot/run/world/${f#/world.}"; done
. /world.settings
$B hostname "$ENV"
$B ip link set lo up
$B ip address add 10.0.2.15/24 dev eth0 && $B ip link set eth0 up || $B echo "target: no network card" >/dev/console
$B mkdir -p /dev/pts
$B mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
for d in dev proc sys; do $B mount --move /$d /newroot/$d; done
exec $B switch_root /newroot /bin/sh /run/world/boot.sh
