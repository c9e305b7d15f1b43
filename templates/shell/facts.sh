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
  # Asked for by doctor alone: where it is refused, sudo logs that.
  if [ "$RIGHTS" = 1 ]; then
    if as_root true >/dev/null 2>&1; then fact root 1; fi
    # The rules of setup: asked about, and not used.
    if [ "$(id -u)" = 0 ] || sudo -n -l "$SYSTEMCTL" start "$NAME@blue.service" >/dev/null 2>&1 </dev/null; then
      fact rules 1
    fi
  fi
  fact machine "$(uname -m)"
  # Read, and not sourced: what stands in it is text to us, whoever wrote it.
  fact os "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tail -n 1 | tr -d "\"'" | head -c 200)"
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
  tried=
  # shellcheck disable=SC2153 # of the header
  for python in "$PYTHON" python3 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 python3.15; do
    [ -n "$python" ] || continue
    path=$(command -v "$python") || continue
    # python3 and python3.11 are mostly one.
    real=$(readlink -f "$path")
    case " $tried " in *" $real "*) continue ;; esac
    tried="$tried $real"
    found=$("$path" -I -c '
import importlib.util, json, os, platform, sys, sysconfig
importlib.util.find_spec("venv") or sys.exit(1)
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

# The workers of a slot, and what its processes use where systemd does not count it: their fair share of what is shared
# if we may know it, else all that each of them has in memory.
slot_processes() { # SLOT
  unit=$NAME@$1.service
  main=$(systemctl show -p MainPID --value "$unit")
  [ "${main:-0}" != 0 ] || return 0
  workers=$(cat "/proc/$main/task/$main/children" 2>/dev/null) || workers=
  # shellcheck disable=SC2086 # a list of pids
  set -- "$1" "$main" $workers
  fact "slot.$1.workers" "$(($# - 2))"
  shift
  group=/sys/fs/cgroup$(systemctl show -p ControlGroup --value "$unit")/cgroup.procs
  all=$(cat "$group" 2>/dev/null) || all=
  # A host that is a container may see another group there than its own.
  printf '%s\n' "$all" | grep -qxF "$main" || all=$*
  sizes_of() { # FILE WORD
    for pid in $all; do sed -n "s/^$2:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$pid/$1" 2>/dev/null; done |
      awk -v WANTED="$(printf '%s\n' "$all" | wc -w)" '{ sum += $1 } END { if (NR == WANTED) printf "%.0f", sum * 1024 }'
  }
  slot=${unit#*@}
  slot=${slot%.service}
  size=$(sizes_of smaps_rollup Pss)
  if [ -n "$size" ]; then
    fact "slot.$slot.pss" "$size"
  else
    fact "slot.$slot.rss" "$(sizes_of status VmRSS)"
  fi
}

maintenance_facts() {
  if [ -e "$ROOT/maintenance" ] || [ -L "$ROOT/maintenance" ]; then
    fact maintenance "$(head -c 65536 "$ROOT/maintenance/state.json" 2>/dev/null || printf '{}')"
  fi
}

# Who activates at this moment: asked without taking the lock, which would be in somebody's way.
activity_facts() {
  held "$ROOT/.activating" || return 0
  holder=$(tail -n 1 "$ROOT/.activating" | head -c 4000)
  fact busy "$holder"
  # A run that nobody holds any more; the watch of a probation is the host's own.
  case $holder in *'"group":'[1-9]*) ;; *) return 0 ;; esac
  until=/run/$NAME/ctl/probation/until
  held "$ROOT/.running" || { [ -s "$until" ] && ! flock -n "$until" true; } || fact adrift 1
}

# Without taking it, which a run that begins would meet. In a container /proc/locks leaves out what `flock` took and ended.
held() { # LOCK
  inode=$(stat -c %i "$1" 2>/dev/null) &&
    grep -qs "[0-9]: FLOCK .*:$inode 0 EOF\$" /proc/locks /proc/[0-9]*/fdinfo/9
}

# Everything that is ours, held against what was written. Each finding is a kind and a path; contents come as data.
drift_facts() {
  for file in $FILES; do drift_file "$file"; done
  drift_file "/etc/$NAME/tls/certificate.pem"
  for unit in $UNITS; do
    for property in DropInPaths FragmentPath NeedDaemonReload; do
      mark drift "unit $unit $property $(systemctl show --no-pager -p "$property" --value "$unit")"
    done
    for file in $(systemctl show --no-pager -p DropInPaths --value "$unit"); do show_file "$file"; done
  done
  for file in /etc/systemd/system/"$NAME".* /etc/systemd/system/"$NAME"[-@]*; do
    if [ ! -f "$file" ] && [ ! -L "$file" ]; then continue; fi
    case " $FILES " in *" $file "*) continue ;; esac
    # Another service's, of which this one's name is the beginning.
    cat /etc/*/setup 2>/dev/null | cut -d ' ' -f 3 | grep -qxF "$file" && continue
    mark drift "extra $file"
    show_file "$file"
  done
  for slot in blue green; do
    [ ! -L "$ROOT/slots/$slot/release" ] || drift_link "$ROOT/slots/$slot/http.sock" "/run/$NAME/$slot.sock"
  done
  for release in "$ROOT"/releases/*/; do
    [ ! -d "$release" ] || drift_release "${release%/}"
  done
}

drift_file() { # PATH
  if [ -L "$1" ]; then
    mark drift "link $1 $(readlink "$1")"
  elif [ -r "$1" ]; then
    :
  elif [ -e "$1" ] || [ ! -x "${1%/*}" ]; then
    mark drift "unreadable $1"
  else
    mark drift "missing $1"
  fi
}

drift_link() { # PATH TARGET
  found=$(readlink "$1" 2>/dev/null) || found=
  [ "$found" = "$2" ] || mark drift "points $1 $found"
}

# What lies below ROOT is its owner's, who may have led its links anywhere: as root it is read with that owner's eyes.
show_file() { # PATH
  if [ ! -f "$1" ] || [ ! -r "$1" ]; then return 0; fi
  case $(id -u)$1 in
    0"$ROOT"/*) data=$(runuser -u "$(stat -c %U "$ROOT")" -- head -c 65536 "$1" 2>/dev/null | base64 -w 0) ;;
    *) data=$(head -c 65536 "$1" | base64 -w 0) ;;
  esac
  mark data "$1" "$data"
}

drift_release() { # DIRECTORY
  if [ ! -f "$1/MANIFEST" ]; then
    mark drift "missing $1/MANIFEST"
    return 0
  fi
  drift_digests "$1/code" ../MANIFEST
  if [ -f "$1/LAUNCHERS" ]; then drift_digests "$1" LAUNCHERS; fi
  venv=$(readlink "$1/venv" 2>/dev/null) || venv=
  case $venv in
    ../../venvs/?*) [ -x "$1/venv/bin/python" ] || mark drift "missing $1/$venv" ;;
    *) mark drift "points $1/venv $venv" ;;
  esac
  {
    (cd "$1/code" && find . ! -type d ! -name '*.pyc' -printf 'code/%P\0')
    (cd "$1" && find run ! -type d -printf '%p\0' 2>/dev/null)
  } | tr '\n\0' '?\n' | sort >"$seen"
  {
    cut -c 67- "$1/MANIFEST" | sed 's|^|code/|'
    if [ -f "$1/LAUNCHERS" ]; then cut -c 67- "$1/LAUNCHERS"; else grep '^run/' "$seen" || :; fi
  } | sort >"$seen.known"
  comm -23 "$seen" "$seen.known" | while IFS= read -r path; do
    mark drift "extra $1/$path"
    show_file "$1/$path"
  done
}

drift_digests() { # DIRECTORY LIST
  (cd "$1" && sha256sum --strict -c "$2" 2>/dev/null </dev/null) | sed -n 's/: FAILED.*$//p' | while IFS= read -r path; do
    if [ -e "$1/$path" ]; then mark drift "edited $1/$path"; else mark drift "missing $1/$path"; fi
    show_file "$1/$path"
  done
}

unit_facts() {
  fact nginx "$(systemctl is-active nginx.service 2>/dev/null || :)"
  fact facade "$(systemctl is-active "$NAME.service" 2>/dev/null || :)"
  fact tries "$(ls "/run/$NAME/try" 2>/dev/null)"
  fact enabled "$(systemctl is-enabled "$NAME.service" 2>/dev/null || :)"
  for slot in blue green; do
    fact "slot.$slot.release" "$(release_at "$ROOT/slots/$slot")"
    for property in $(systemctl show "$NAME@$slot.service" --no-pager \
      -p ActiveState -p MainPID -p NRestarts -p ActiveEnterTimestampMonotonic -p MemoryCurrent | tr -d ' '); do
      fact "slot.$slot.${property%%=*}" "${property#*=}"
    done
    slot_processes "$slot"
  done
  for unit in $PROCESSES; do
    fact "process.$unit" "$(systemctl is-active "$unit" 2>/dev/null || :)"
  done
}

# The seconds that are left to the release which has the traffic and is not committed; or that one was, a moment ago.
probation_facts() {
  slot=$(slot_of "/run/$NAME/ctl/live")
  committed=$(slot_of "$ROOT/current")
  until=
  [ ! -f "/run/$NAME/ctl/probation/until" ] || IFS= read -r until <"/run/$NAME/ctl/probation/until" || :
  if [ -z "$slot" ]; then
    if [ -n "$committed" ] && watched "$committed"; then fact finishing 1; fi
    return 0
  fi
  fact live_release "$(release_at "$ROOT/slots/$slot")"
  if [ "$until" = "${until#taken }" ] && watched "$slot"; then
    [ "$NOW" -lt "$until" ] || until=$NOW
    fact probation "$(((until - NOW + 99) / 100))"
  fi
}

# Killed, its watch is not there for a moment, and comes back. One that is long overdue hangs, and watches nothing.
watched() { # SLOT
  case ${until#taken } in '' | *[!0-9]*) return 1 ;; esac
  now
  [ "$NOW" -lt $((${until#taken } + (2 * DRAIN + GRACE + 60) * 100)) ] || return 1
  case $(systemctl is-active "$NAME-probation@$1.service") in active | activating) ;; *) return 1 ;; esac
}

release_facts() {
  fact current "$(slot_of "$ROOT/current")"
  live=$(readlink "/run/$NAME/ctl/live" 2>/dev/null) || live=
  if [ "$live" = "$ROOT/current" ]; then fact live current; else fact live "$(slot_of "/run/$NAME/ctl/live")"; fi
  probation_facts
  for release in "$ROOT"/releases/*/; do
    [ -f "${release}release.json" ] || continue
    mark release "$(head -c 65536 "${release}release.json" | tr -d '\n')"
  done
  # Where the power went in the middle of a prune.
  for old in "$ROOT"/releases/.part-old-????????????; do [ ! -d "$old" ] || fact pruning 1; done
  for venv in "$ROOT"/venvs/*/; do
    [ -d "$venv" ] && fact "venv.$(basename "$venv")" 1
  done
  for wheel in "$ROOT"/wheels/*.whl; do
    [ -f "$wheel" ] && fact "wheel.$(basename "$wheel")" 1
  done
  if [ -f "$ROOT/history.jsonl" ]; then
    {
      [ "$HISTORY" = 0 ] || head -n "-$HISTORY" "$ROOT/history.jsonl" | committed_switches | tail -n 200
      tail -n "$HISTORY" "$ROOT/history.jsonl"
    } | while IFS= read -r line || [ -n "$line" ]; do mark history "$line"; done
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
  # Whether it is well is asked of the one that has the traffic.
  trial=$(slot_of "/run/$NAME/ctl/live")
  if [ -n "$trial" ]; then
    slot=$trial
    ID=$(release_at "$ROOT/slots/$slot")
  fi
  judge_by "$ID"
  if [ "$HEALTH" = 1 ] && systemctl is-active -q "$NAME@$slot.service"; then
    if probe_slot "$slot" 5; then fact health.slot ok; else fact health.slot "$PROBE_WHY"; fi
    if probe_front 5; then fact health.front ok; else fact health.front "$PROBE_WHY"; fi
  fi
}

# What the slot without traffic said last: why a release was taken back.
journal_facts() {
  slot=$(slot_of "$ROOT/current")
  case $slot in blue) slot=green ;; *) slot=blue ;; esac
  journalctl -q --no-pager -o cat -n 200 -b -u "$NAME@$slot.service" </dev/null 2>/dev/null |
    while IFS= read -r line; do mark journal "$line"; done
}

# After a lost link: whoever activates ends within seconds, and only then is there something to read.
if [ "$WATCH" != 0 ] && [ -f "/run/$NAME/ctl/probation/until" ]; then
  flock -w "$WATCH" "/run/$NAME/ctl/probation/until" true || :
fi
if [ "$WAIT" != 0 ] && [ -f "$ROOT/.activating" ]; then flock -w "$WAIT" "$ROOT/.activating" true || fact activating 1; fi
machine_facts
python_facts
file_facts
unit_facts
release_facts
current_facts
maintenance_facts
activity_facts
[ "$JOURNAL" = 0 ] || journal_facts
if [ "$DRIFT" = 1 ]; then
  seen=$(mktemp)
  trap 'rm -f "$seen" "$seen.known"' EXIT
  drift_facts
fi
mark end ok
