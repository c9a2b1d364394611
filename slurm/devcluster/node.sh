#!/bin/bash
# One node of a devcluster: node.sh NAMESPACE NAME HOSTS NSSWITCH SLURM_CONF
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
exec slurmd -D -N "$2" -f "$5"
