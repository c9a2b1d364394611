#!/bin/bash
# One node of a devcluster: node.sh NAMESPACE NAME HOSTS NSSWITCH SLURM_CONF [SHARED SECONDS]
# Enters the node's network, takes its own host name and name files, and becomes its slurmd. Jobs inherit all of it.
# `ip netns exec` would hide /sys/fs/cgroup, without which slurmd does not start.
set -eu
if [[ ${MUSTER_DEVCLUSTER_INSIDE:-} != yes ]]; then
  export MUSTER_DEVCLUSTER_INSIDE=yes
  exec nsenter --net="$1" unshare --uts --mount --propagation private bash "$0" "$@"
fi
unset -v MUSTER_DEVCLUSTER_INSIDE
hostname "$2"
mount --bind "$3" /etc/hosts
mount --bind "$4" /etc/nsswitch.conf
# SHARED as a network file system with caches shows it: names, sizes and what is not there may be SECONDS old.
if [[ -n ${6:-} ]]; then
  bindfs -o "attr_timeout=$7,entry_timeout=$7,negative_timeout=$7" "$6" "$6"
fi
exec slurmd -D -N "$2" -f "$5"
