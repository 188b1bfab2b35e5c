#!/usr/bin/env bash
# node.sh boot DIR CGROUP CTD DISK - pid 1 of a lab node. lab.sh starts it in new mount, uts, ipc, net and pid namespaces.
#   DIR     the node's directory: etc/ (laid over the machine's /etc) and disk/ (what outlives a stop)
#   CGROUP  name of the node's control group
#   CTD     a directory with bin/containerd and bin/ctr to run in place of the installed ones, or empty
#   DISK    size limit of /var/lib/containerd (then in memory, lost at stop), or empty: on DIR
# node.sh remove-groups CGROUP - what is left of a node's control groups; in a mount namespace of its own.
set -euo pipefail

# Mounts the control groups at $1, and prints the root of each hierarchy: one with cgroup v2, several where the
# machine still has its controllers in v1 hierarchies.
mount_groups() {
  local controllers
  mount -t cgroup2 cgroup2 "$1"
  if grep -qw cpu "$1/cgroup.controllers"; then echo "$1"; return; fi
  umount "$1"
  mount -t tmpfs -o mode=755 tmpfs "$1"
  while IFS=: read -r _ controllers _; do
    case $controllers in '' | name=*) continue ;; esac
    mkdir "$1/$controllers"
    mount -t cgroup -o "$controllers" cgroup "$1/$controllers"
    echo "$1/$controllers"
  done </proc/self/cgroup
}

# Moves this process into the group $2 of the hierarchy $1, made if need be.
enter_group() {
  local file
  mkdir -p "$1/$2"
  for file in cpuset.cpus cpuset.mems; do   # v1: empty in a new group, and then no process may enter
    if [ -e "$1/$file" ] && [ ! -e "$1/cgroup.controllers" ]; then cat "$1/$file" >"$1/$2/$file"; fi
  done
  echo 0 >"$1/$2/cgroup.procs"
}

# v2: lets the groups inside $1 have its controllers.
share_controllers() {
  local controller
  [ -e "$1/cgroup.controllers" ] || return 0
  for controller in $(<"$1/cgroup.controllers"); do echo "+$controller" >"$1/cgroup.subtree_control" || true; done
}

if [ "$1" = remove-groups ]; then
  for top in $(mount_groups /mnt); do
    if [ -d "$top/$2" ]; then find "$top/$2" -depth -type d -exec rmdir {} +; fi
  done
  exit
fi

# Second half of boot, in the cgroup namespace too.
if [ "$1" = services ]; then
  umount --recursive /sys/fs/cgroup
  for top in $(mount_groups /sys/fs/cgroup); do
    [ ! -e "$top/cgroup.controllers" ] || enter_group "$top" system   # v2: only a group without processes can share
    share_controllers "$top"
  done
  umask 022
  export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  mkdir -p /run/sshd
  /usr/sbin/sshd -f /etc/ssh/sshd_config -E /var/log/lab/sshd.d.log
  while :; do   # a killed containerd comes back, as it does under systemd
    containerd >>/var/log/lab/containerd.d.log 2>&1 &
    wait $! || true
    sleep 0.3
  done
fi

DIR=$2 CGROUP=$3 CTD=$4 DISK=$5

# /proc is still the machine's: its idea of this process is the id under which lab.sh finds the node.
read -r pid _ </proc/self/stat

# The root: the machine's own, read only, under a layer in memory. What a node writes never reaches the machine.
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/{upper,work,root}
root=/mnt/root
mount -t overlay overlay -o "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work" "$root"
cp -a "$DIR/etc/." "$root/etc/"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
for top in $(mount_groups "$root/sys/fs/cgroup"); do
  share_controllers "$top"
  enter_group "$top" "$CGROUP"
done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root"/var/lib/{containerd,omk}

if [ "$DISK" ]; then
  mount -t tmpfs -o "size=$DISK" tmpfs "$root/var/lib/containerd"
else
  mount --bind "$DIR/disk/containerd" "$root/var/lib/containerd"
fi
if [ "$CTD" ]; then
  for tool in containerd ctr containerd-shim-runc-v2; do cp "$CTD/bin/$tool" "$root/usr/bin/$tool"; done
fi
mount --bind "$DIR/disk/omk" "$root/var/lib/omk"
mount --bind "$DIR/disk/home" "$root/home"
mount --bind "$DIR/disk/root" "$root/root"
log=$root/var/log/lab
mkdir -p "$log"
mount --bind "$DIR" "$log"
mount --bind "$DIR/disk/tmp" "$root/tmp"

hostname "$(<"$DIR/etc/hostname")"
echo "$pid" >"$DIR/pid.new"
mv "$DIR/pid.new" "$DIR/pid"

cp "$0" "$root/run/node.sh"
mkdir -p "$root/run/machine"
cd "$root"
pivot_root . run/machine
umount -l /run/machine
rmdir /run/machine
# lab.sh tells its processes by the directory in their command line.
exec unshare --cgroup bash /run/node.sh services "$DIR"
