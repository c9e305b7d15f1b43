#!/bin/sh
# Run one sandbox host, through all its reboots: boot.sh DIRECTORY TREE HOSTNAME MACHINE BRIDGE CGROUP2 [CGROUP]
# Runs in a mount namespace of its own, so that the overlay goes when the host goes, whatever killed it.
set -eu
directory=$1 tree=$2 hostname=$3 machine=$4 bridge=$5 cgroup2=$6
# Under systemd this script runs in a delegated scope; elsewhere the caller passes a cgroup.
cgroup=$cgroup2${7:-$(sed -n 's/^0:://p' /proc/self/cgroup)}

echo "$$ $(cut -d' ' -f22 "/proc/$$/stat")" >"$directory/pid.part"
mv "$directory/pid.part" "$directory/pid"

# A cgroup with processes of its own can have no delegated children, so the keeper and the host get one each.
mkdir -p "$cgroup/keeper" "$cgroup/host"
echo "$$" >"$cgroup/keeper/cgroup.procs"

# Relative names, since mount would interpret commas and colons of a path.
cd "$directory/disk"
ln -sfn "$tree" tree
mount -t overlay overlay -o lowerdir=tree,upperdir=upper,workdir=work root
if [ -e "$directory/seed.tar" ]; then
    tar --extract --file="$directory/seed.tar" --directory=root --same-owner --preserve-permissions
    rm "$directory/seed.tar"
fi

# nspawn exits with 133 when the host asked for a reboot.
status=133
while [ "$status" -eq 133 ]; do
    status=0
    # With bpf(2) its systemd can filter addresses, as on a real machine.
    # shellcheck disable=SC2016 # expanded by the inner shell, which moves itself before it becomes nspawn
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 sh -c 'echo "$$" >"$0/cgroup.procs" && exec "$@"' "$cgroup/host" \
        systemd-nspawn --quiet --boot --register=no --keep-unit --directory=root \
        --machine="$machine" --hostname="$hostname" --network-bridge="$bridge" \
        --system-call-filter=bpf --resolv-conf=off --timezone=off --link-journal=no --console=read-only </dev/null || status=$?
done
exit "$status"
