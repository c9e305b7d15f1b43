#!/bin/sh
# Used by NAME-certificate.service, as root: take the certificate and key that another program of this host keeps,
# if nginx can use them, and reload nginx. Changes only files in /etc/NAME/tls.
# Usage: take-certificate NAME CERTIFICATE KEY SERVER_NAME...
#        take-certificate --again NAME CERTIFICATE KEY
# The second starts the service once more if a file has changed since it looked.
set -eu
umask 077
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
again=
if [ "$1" = --again ]; then
  again=yes
  shift
fi
name=$1 certificate=$2 key=$3
shift 3
cd "/etc/$name/tls"

# Print what changes with the two files: their inodes, sizes and times.
state() {
  stat -L -c '%n %d %i %s %z' "$certificate" "$key" 2>&1 || :
}

# systemd does not see a change that comes while the service runs, but each one that comes after it watches again.
if [ "$again" ]; then
  while [ "$(systemctl show -p SubState --value "$name-certificate.path")" = running ]; do
    sleep 0.1
  done
  if [ "$(state)" != "$(cat .seen)" ]; then
    systemctl --no-block start "$name-certificate.service"
  fi
  exit
fi

trap 'rm -f .taken.* .pair.new .pair.former .certificate.new .certificate.former' EXIT

copy() {
  why="there is no file $1"
  [ -f "$1" ] || return 1
  # By now it may be a pipe: without nonblock root would wait for its writer.
  why="$1 cannot be read"
  dd if="$1" of="$2" iflag=nonblock,fullblock bs=100000 count=10 2>/dev/null || return 1
  why="$1 has a megabyte or more"
  [ "$(wc -c <"$2")" -lt 1000000 ]
}

# Print the blocks of a PEM file that have this label. A block has base64 alone: one that was cut would reach into the
# next, which may be the key.
blocks() {
  awk -v label="$2" '
    $0 ~ "^-----BEGIN " label "-----" { block = $0 ORS; inside = 1; next }
    inside && $0 ~ "^-----END " label "-----" { printf "%s%s%s", block, $0, ORS; inside = 0; next }
    inside && /^[A-Za-z0-9+\/= \t\r]*$/ { block = block $0 ORS; next }
    { inside = 0 }' "$1"
}

# Copy the two files, take the certificates and the key out of the copies, and check them. Sets `why`.
# Many programs keep both in one file, and every account may read the certificates.
fit() {
  state >.seen
  copy "$certificate" .taken.one && copy "$key" .taken.two || return 1
  blocks .taken.one CERTIFICATE >.taken.pem
  blocks .taken.two '[A-Z ]*PRIVATE KEY' >.taken.key
  why="$certificate is no certificate in PEM"
  public=$(openssl x509 -noout -pubkey -in .taken.pem 2>/dev/null </dev/null) || return 1
  why="$certificate and $key do not belong together"
  [ "$(openssl pkey -pubout -passin pass: -in .taken.key 2>/dev/null </dev/null)" = "$public" ] || return 1
  why="$certificate has expired"
  openssl x509 -noout -checkend 0 -in .taken.pem >/dev/null </dev/null || return 1
  for wanted; do
    why="$certificate is not for $wanted"
    case $wanted in \*.*) tried="any${wanted#\*}" ;; *) tried=$wanted ;; esac
    openssl x509 -noout -checkhost "$tried" -in .taken.pem </dev/null | grep -q 'does match' || return 1
  done
}

# Give nginx the copies.
publish() {
  : >.unread
  cp -p pair.pem .pair.former
  cp -p certificate.pem .certificate.former
  # The health checks trust this file. They may come before the reload, so the former certificate stays in it.
  { cat .taken.pem && echo && openssl x509 -in .certificate.former </dev/null; } >.certificate.new
  chmod 644 .certificate.new
  sync .pair.new .certificate.new
  mv -f .certificate.new certificate.pem
  mv -f .pair.new pair.pem
  if ! nginx -t -q </dev/null; then
    mv -f .pair.former pair.pem
    mv -f .certificate.former certificate.pem
    rm -f .unread
    echo "nginx refuses its configuration with the new certificate: it keeps the former one" >&2
    exit 1
  fi
  # A reload leaves workers that end with their last request: a program that writes all the time must not fill the host.
  if [ -n "$(find .reloaded -newermt '-10 seconds' 2>/dev/null)" ]; then
    sleep 10
  fi
  if systemctl -q is-active nginx.service; then
    systemctl reload nginx.service
    : >.reloaded
  fi
  rm -f .unread
  echo "nginx has a new certificate: $(openssl x509 -noout -enddate -in .taken.pem </dev/null)"
}

# A program writes the two files one after the other.
left=50
until fit "$@"; do
  left=$((left - 1))
  [ "$left" -gt 0 ] || { echo "$why: nginx keeps the former certificate" >&2 && exit 1; }
  sleep 0.2
done

{ cat .taken.pem && echo && cat .taken.key; } >.pair.new
# The mark says that nginx has not read the pair yet: this may have been killed.
if [ -e .unread ] || ! cmp -s .pair.new pair.pem; then
  publish
fi
