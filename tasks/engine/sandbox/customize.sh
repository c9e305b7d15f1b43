#!/bin/sh
# The last step of the base tree, run by mmdebstrap with the tree as $1: what every sandbox host has in common.
set -eu
tree=$1

chroot "$tree" useradd --uid 1000 --create-home --shell /bin/bash deploy
chroot "$tree" install -d -m 0700 -o deploy -g deploy /home/deploy/.ssh
chroot "$tree" install -d -m 0700 /root/.ssh

cat >"$tree/etc/ssh/sshd_config.d/sandbox.conf" <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
END
mkdir -p "$tree/etc/systemd/journald.conf.d" "$tree/var/log/journal"
printf '[Journal]\nStorage=persistent\n' >"$tree/etc/systemd/journald.conf.d/sandbox.conf"

chroot "$tree" systemctl enable systemd-networkd.service ssh.service
chroot "$tree" systemctl disable nginx.service
# Nothing may reach out, and nobody sits at the console.
chroot "$tree" systemctl mask apt-daily.timer apt-daily-upgrade.timer console-getty.service

# Each host gets its own identity; a resolver would only make every look-up wait.
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/etc/resolv.conf" "$tree/etc/hostname"
