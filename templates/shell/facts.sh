# Reads only. Everything that plan, doctor, status and health want to know of a host, in one go.
fact() { # KEY VALUE
  case $2 in *[[:cntrl:]]*) set -- "$1" "$(printf %s "$2" | tr '\n\r' '  ')" ;; esac
  mark fact "$1" "$2"
}

machine_facts() {
  fact time "$(date +%s)"
  now
  fact uptime "${NOW%??}"
  fact account "$(id -un)"
  fact machine "$(uname -m)"
  fact os "$(. /etc/os-release 2>/dev/null && printf %s "${PRETTY_NAME:-}")"
  fact systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
  fact selinux "$(cat /sys/fs/selinux/enforce 2>/dev/null || printf 0)"
  fact ipv6 "$([ ! -s /proc/net/if_inet6 ] || printf 1)"
  for tool in apt-get curl dnf flock head nginx openssl sha256sum ss sudo systemctl tar visudo; do
    found=$(command -v "$tool") || found=
    fact "tool.$tool" "$found"
  done
  for account in www-data nginx; do
    if id -u "$account" >/dev/null 2>&1; then fact web_account "$account"; fi
  done
  place=$ROOT
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  fact free_bytes "$(df -P -k "$place" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')"
  fact free_inodes "$(df -P -i "$place" | awk 'NR == 2 { print $4 }')"
}

python_facts() {
  for python in "$PYTHON" python3 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 python3.15; do
    [ -n "$python" ] && path=$(command -v "$python") || continue
    found=$("$path" -I -c '
import json, os, platform, sys, sysconfig, venv
gnu, libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None, None
print(json.dumps({
    "path": sys.executable, "version": platform.python_version(), "implementation": sys.implementation.name,
    "soabi": sysconfig.get_config_var("SOABI") or "", "machine": platform.machine(), "libc": gnu or "",
    "gil_disabled": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))' 2>/dev/null </dev/null) || continue
    fact python "$found"
  done
}

file_facts() {
  for file in $FILES "/etc/$NAME/tls/certificate.pem"; do
    if [ -r "$file" ]; then
      fact "file.$file" "$(sha256sum <"$file" | cut -d ' ' -f 1)"
      if [ "$SHOW" = 1 ]; then mark data "$file" "$(base64 -w 0 <"$file")"; fi
    fi
  done
  if [ -r "/etc/$NAME/setup" ]; then
    while IFS=' ' read -r key value rest; do fact "setup.$key" "$value${rest:+ $rest}"; done <"/etc/$NAME/setup"
  fi
  certificate=/etc/$NAME/tls/certificate.pem
  if [ -r "$certificate" ] && command -v openssl >/dev/null; then
    fact certificate_end "$(openssl x509 -noout -enddate -in "$certificate" </dev/null | cut -d = -f 2)"
  fi
}

unit_facts() {
  fact nginx "$(systemctl is-active nginx.service 2>/dev/null || :)"
  fact facade "$(systemctl is-active "$NAME.service" 2>/dev/null || :)"
  fact enabled "$(systemctl is-enabled "$NAME.service" 2>/dev/null || :)"
  for slot in blue green; do
    fact "slot.$slot.release" "$(release_at "$ROOT/slots/$slot")"
    for property in $(systemctl show "$NAME@$slot.service" --no-pager \
      -p ActiveState -p MainPID -p NRestarts -p ActiveEnterTimestampMonotonic -p MemoryCurrent | tr -d ' '); do
      fact "slot.$slot.${property%%=*}" "${property#*=}"
    done
  done
  for unit in $PROCESSES; do
    fact "process.$unit" "$(systemctl is-active "$unit" 2>/dev/null || :)"
  done
}

release_facts() {
  fact current "$(slot_of "$ROOT/current")"
  live=$(readlink "/run/$NAME/ctl/live" 2>/dev/null) || live=
  if [ "$live" = "$ROOT/current" ]; then fact live current; else fact live "$(slot_of "/run/$NAME/ctl/live")"; fi
  for release in "$ROOT"/releases/*/; do
    [ -f "${release}release.json" ] || continue
    mark release "$(head -c 65536 "${release}release.json" | tr -d '\n')"
  done
  for venv in "$ROOT"/venvs/*/; do
    [ -d "$venv" ] && fact "venv.$(basename "$venv")" 1
  done
  for wheel in "$ROOT"/wheels/*.whl; do
    [ -f "$wheel" ] && fact "wheel.$(basename "$wheel")" 1
  done
  if [ -f "$ROOT/history.jsonl" ]; then
    tail -n "$HISTORY" "$ROOT/history.jsonl" | while IFS= read -r line; do mark history "$line"; done
  fi
}

current_facts() {
  slot=$(slot_of "$ROOT/current")
  [ -n "$slot" ] || return 0
  ID=$(release_at "$ROOT/slots/$slot")
  fact current_release "$ID"
  if [ "$MANIFEST" = 1 ] && [ -f "$ROOT/releases/$ID/MANIFEST" ]; then
    while IFS= read -r line; do mark same "$line"; done <"$ROOT/releases/$ID/MANIFEST"
  fi
  if [ "$HEALTH" = 1 ] && systemctl is-active -q "$NAME@$slot.service"; then
    if probe_slot "$slot" 5; then fact health.slot ok; else fact health.slot "$PROBE_WHY"; fi
    if probe_front 5; then fact health.front ok; else fact health.front "$PROBE_WHY"; fi
  fi
}

# After a lost link: whoever activates ends within seconds, and only then is there something to read.
if [ "$WAIT" != 0 ] && [ -f "$ROOT/.activating" ]; then flock -w "$WAIT" "$ROOT/.activating" true || fact activating 1; fi
machine_facts
python_facts
file_facts
unit_facts
release_facts
current_facts
mark end ok
