#!/bin/bash
# start.sh SCRATCH PAYLOAD CGROUP
# Boots the system's own systemd as process 1 of namespaces of its own, over an overlay of /.
# Needs root. SCRATCH is an empty folder; what PAYLOAD holds is laid over the root; CGROUP is a
# folder of a cgroup2 mount, which becomes the root of what the new process 1 sees of it.
# Nothing outside is changed, and all of it ends with this process.
set -eu
echo $$ > "$3/cgroup.procs"
exec unshare --mount --pid --fork --ipc --uts --net --cgroup --propagation private --kill-child \
  bash "$(dirname "$0")/boot.sh" "$1" "$2"
