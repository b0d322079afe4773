#!/bin/bash
# boot.sh SCRATCH PAYLOAD: see start.sh, which runs this inside the new namespaces.
set -eu
umask 022
mount -t tmpfs -o size=256m tmpfs "$1"
mkdir -m 755 "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root

# What containers get of the kernel's file systems.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 755 "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# Nothing of this machine's own starts: only the journal and what makes users and folders.
rm -rf "$root"/etc/systemd/system/* "$root"/usr/lib/systemd/system/*.wants "$root"/etc/fstab
mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/systemd/journald.conf.d"
for unit in systemd-journald.service systemd-sysusers.service systemd-tmpfiles-setup.service; do
  ln -s "/usr/lib/systemd/system/$unit" "$root/etc/systemd/system/sysinit.target.wants/$unit"
done
rm -f "$root"/usr/lib/tmpfiles.d/*.conf
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' \
  > "$root/etc/systemd/journald.conf.d/test.conf"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=sockets.target\n' \
  > "$root/etc/systemd/system/test.target"
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
cp -r "$2/." "$root/"

ip link set lo up 2>/dev/null || true
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=no
