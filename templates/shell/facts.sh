# Reads only. Everything that plan, doctor, status and health want to know of a host, in one go: of a host where there is
# nothing to do this is the whole deploy, so it starts few programs, and asks side by side what takes time.
fact() { # KEY VALUE
  case $2 in *[[:cntrl:]]*) set -- "$1" "$(printf %s "$2" | tr '\n\r' '  ')" ;; esac
  mark fact "$1" "$2"
}

# The path of a program in FOUND, as `command -v` would print it.
find_tool() { # NAME
  FOUND=
  IFS=:
  for directory in $PATH; do
    if [ -f "$directory/$1" ] && [ -x "$directory/$1" ]; then
      FOUND=$directory/$1
      break
    fi
  done
  unset IFS
}

machine_facts() {
  fact time "$(date +%s)"
  # A file of /proc has no size: what it says has to be read.
  if [ -r /proc/net/if_inet6 ] && IFS= read -r _ </proc/net/if_inet6; then fact ipv6 1; fi
  for tool in apt-get curl dnf flock head nginx openssl sha256sum ss sudo systemctl tar visudo; do
    find_tool "$tool"
    fact "tool.$tool" "$FOUND"
  done
  getent passwd www-data nginx 2>/dev/null | while IFS=: read -r account _; do fact web_account "$account"; done
}

python_facts() {
  tried=
  # shellcheck disable=SC2153 # of the header
  for python in "$PYTHON" python3 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 python3.15; do
    case $python in '') continue ;; /*) path=$python ;; *) find_tool "$python" && path=$FOUND ;; esac
    [ -x "$path" ] || continue
    # python3 and python3.11 are mostly one.
    # shellcheck disable=SC3013 # dash, bash and busybox know it
    for known in $tried; do [ ! "$path" -ef "$known" ] || continue 2; done
    tried="$tried $path"
    # Without `site`, json, platform and sysconfig it starts in a third of the time. The suffix holds SOABI.
    found=$("$path" -I -S -c '
import importlib.machinery, os, sys
def others(gid):
    import grp, pwd
    me = os.geteuid()
    try:
        named = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        named = set()
    return any((one.pw_name in named or one.pw_gid == gid) and one.pw_uid not in (0, me) for one in pwd.getpwall())
def flaws(path, needed):
    for top in "/home", "/root", "/run/user", *(os.path.join(above, "tmp") for above in ("/", "/var")):
        if path.startswith(os.path.realpath(top) + "/"):
            yield "hidden", top
    while path != "/":
        found = os.stat(path)
        mode = found.st_mode
        loose = mode & 0o1002 == 2 or mode & 0o020 and found.st_gid and others(found.st_gid)
        if loose or found.st_uid not in (0, os.geteuid()):
            yield "open", path
        if not (mode & needed or found.st_gid and mode & needed << 3):
            yield "closed", path
        path, needed = os.path.dirname(path), 1
here = [*flaws(os.path.realpath(sys.executable), 1), *flaws(os.path.realpath(os.__file__), 4)]
os.path.isdir(os.path.join(os.path.dirname(os.__file__), "venv")) or sys.exit(1)
v, level = sys.version_info, {"alpha": "a", "beta": "b", "candidate": "rc"}
told = {
    "path": sys.executable,
    "version": "%d.%d.%d" % v[:3] + (level[v[3]] + str(v[4]) if v[3] in level else ""),
    "implementation": sys.implementation.name,
    "soabi": importlib.machinery.EXTENSION_SUFFIXES[0].strip(".").partition("so")[0].strip("."),
    "machine": os.uname().machine,
    "flaws": "; ".join("%s %s" % one for one in dict(reversed(here)).items()),
    "libc": os.confstr("CS_GNU_LIBC_VERSION") or "" if "CS_GNU_LIBC_VERSION" in os.confstr_names else "",
}
print("{%s}" % ", ".join("\"%s\": \"%s\"" % one for one in told.items()))' 2>/dev/null </dev/null) || continue
    fact python "$found"
  done
}

file_facts() {
  set --
  for file in $FILES "/etc/$NAME/tls/certificate.pem"; do
    if [ -f "$file" ] && [ -r "$file" ]; then set -- "$@" "$file"; fi
  done
  [ $# = 0 ] || sha256sum -- "$@" 2>/dev/null | while IFS=' ' read -r digest file; do fact "file.$file" "$digest"; done
  if [ -r "/etc/$NAME/setup" ]; then
    while IFS=' ' read -r key value rest; do fact "setup.$key" "$value${rest:+ $rest}"; done <"/etc/$NAME/setup"
  fi
}

# What lies in root's files.
shown_files() {
  for file in $FILES "/etc/$NAME/tls/certificate.pem"; do
    if [ -f "$file" ] && [ -r "$file" ]; then mark data "$file" "$(base64 -w 0 <"$file")"; fi
  done
}

maintenance_facts() {
  if [ -e "$ROOT/maintenance" ] || [ -L "$ROOT/maintenance" ]; then
    fact maintenance "$(head -c 65536 "$ROOT/maintenance/state.json" 2>/dev/null || printf '{}')"
  fi
}

# Who activates at this moment: asked without taking the lock, which would be in somebody's way.
activity_facts() {
  held activate 9 || return 0
  holder=$(tail -n 1 "$LOCKS/activate" 2>/dev/null | head -c 4000)
  fact busy "$holder"
  # A run that nobody holds any more; the watch of a probation is the host's own.
  case $holder in *'"group":'[1-9]*) ;; *) return 0 ;; esac
  held run 9 || { [ -s "$UNTIL" ] && held guard 6; } || fact adrift 1
}

# Without taking it, which a run that begins would meet. In a container /proc/locks leaves out what `flock` took and ended.
held() { # LOCK DESCRIPTOR
  find_lock "$1" && grep -qs "[0-9]: FLOCK .* $LOCK_AT 0 EOF\$" /proc/locks "/proc/"[0-9]*"/fdinfo/$2"
}

unit_facts() {
  tries=
  for path in "/run/$NAME/try"/*; do [ ! -e "$path" ] || tries="$tries${tries:+ }${path##*/}"; done
  fact tries "$tries"
  fact slot.blue.release "$BLUE_RELEASE"
  fact slot.green.release "$GREEN_RELEASE"
  fact current "$CURRENT"
  fact live "$LIVE"
  [ -z "$CURRENT" ] || {
    look_up "$CURRENT"
    fact current_release "$RELEASE"
  }
}

# The seconds that are left to the release which has the traffic and is not committed; or that one was, a moment ago.
probation_facts() {
  until=
  [ ! -f "$UNTIL" ] || IFS= read -r until <"$UNTIL" || :
  if [ "${LIVE:-$CURRENT}" = "$CURRENT" ]; then
    if [ -n "$CURRENT" ] && watched "$CURRENT"; then fact finishing 1; fi
    return 0
  fi
  look_up "$LIVE"
  fact live_release "$RELEASE"
  if watched "$LIVE" && [ "$since" = "$until" ]; then
    [ "$NOW" -lt "$until" ] || until=$NOW
    fact probation "$(((until - NOW + 99) / 100))"
  fi
}

# Killed, its watch is not there for a moment, and comes back. One that is long overdue hangs, and watches nothing.
watched() { # SLOT
  since=${until#taken }
  since=${since#drain }
  case $since in '' | *[!0-9]*) return 1 ;; esac
  [ "$NOW" -lt $((since + (2 * DRAIN + GRACE + 60) * 100)) ] || return 1
  look_up "$1"
  case $WATCHER in active | activating) ;; *) return 1 ;; esac
}

release_facts() {
  set --
  for record in "$ROOT"/releases/*/release.json; do [ ! -f "$record" ] || set -- "$@" "$record"; done
  # A line for each, whoever has written it, and of none more than that. The nonce stands in no argument, which `ps` shows.
  [ $# = 0 ] || MARK="@$NONCE release " awk '
    function told() { if (text != "") print ENVIRON["MARK"] text; text = "" }
    FNR == 1 { told() }
    length(text) < 65536 { text = text substr($0, 1, 65536) }
    END { told() }' "$@" 2>/dev/null || :
  # Where the power went in the middle of a prune.
  for old in "$ROOT"/releases/.part-old-????????????; do [ ! -d "$old" ] || fact pruning 1; done
  for venv in "$ROOT"/venvs/*/; do
    venv=${venv%/}
    [ ! -d "$venv" ] || fact "venv.${venv##*/}" 1
  done
  for wheel in "$ROOT"/wheels/*.whl; do [ ! -f "$wheel" ] || fact "wheel.${wheel##*/}" 1; done
  if [ "$HISTORY" != 0 ] && [ -f "$ROOT/history.jsonl" ]; then
    # The last of it as it is, and of what came before the switches that were done.
    MARK="@$NONCE history " awk -v LAST="$HISTORY" '
      {
        at = NR % LAST
        if (NR > LAST && line[at] ~ /"action":"(deploy|rollback)",.*"state":"done"/) done[count++ % 200] = line[at]
        line[at] = $0
      }
      END {
        for (n = count > 200 ? count - 200 : 0; n < count; n++) print ENVIRON["MARK"] done[n % 200]
        for (n = NR > LAST ? NR - LAST + 1 : 1; n <= NR; n++) print ENVIRON["MARK"] line[n % LAST]
      }' "$ROOT/history.jsonl"
  fi
}

# What the committed release is made of, unless it is the one that is to be deployed.
manifest_facts() {
  [ "$MANIFEST" = 1 ] && [ -n "$CURRENT" ] || return 0
  look_up "$CURRENT"
  [ "$RELEASE" != "$WANTED" ] || return 0
  [ ! -f "$ROOT/releases/$RELEASE/MANIFEST" ] ||
    MARK="@$NONCE same " awk '{ print ENVIRON["MARK"] $0 }' "$ROOT/releases/$RELEASE/MANIFEST"
}

# Whether the one that has the traffic is well; for a deploy only where that is the release to be deployed.
health_facts() {
  [ "$HEALTH" = 1 ] && [ -n "$CURRENT" ] || return 0
  slot=${LIVE:-$CURRENT}
  look_up "$slot"
  [ "$STATE" = active ] || return 0
  case $WANTED in '' | "$RELEASE") ;; *) return 0 ;; esac
  ID=$RELEASE
  judge_by "$ID"
  if probe_slot "$slot" 5; then fact health.slot ok; else fact health.slot "$PROBE_WHY"; fi &
  if probe_front 5; then fact health.front ok; else fact health.front "$PROBE_WHY"; fi
  wait
}

# What the slot without traffic said last: why a release was taken back.
journal_facts() {
  case $CURRENT in blue) slot=green ;; *) slot=blue ;; esac
  said "$NAME@$slot.service" -n 200 -b
}

# What lies below ROOT is the deploy account's, which may have put anything there: root reads it as that account.
step_down() {
  [ "$(id -u)" = 0 ] || return 0
  # In the first layout its line began with `account`, which says something else since.
  account=$(awk '$1 == "user" { user = $2 } $1 == "account" { former = $2 } END { print user ? user : former }' \
    "/etc/$NAME/setup" 2>/dev/null) || account=
  case $account in '' | root) return 0 ;; esac
  id -u "$account" >/dev/null 2>&1 || return 0
  [ "$RIGHTS" = 0 ] || fact root 1
  # What root's part is made of is root's word: the controller believes the first of two.
  machine_facts
  file_facts
  loopback_fact
  [ "$SHOW" = 0 ] || shown_files
  if [ "$ROOTS_OWN" = 1 ]; then
    mark end ok
    exit 0
  fi
  status=0
  # The text of this script, as the login's shell has read it.
  printf '%s\n' "$NONCE" "$RUN" "$WHO" "$FAILPOINT" | runuser -u "$account" -- /bin/sh -c "$SCRIPT" || status=$?
  exit "$status"
}

[ "$STEP_DOWN" = 0 ] || step_down
UNTIL=/run/$NAME/ctl/probation/until
# After a lost link: whoever activates ends within seconds, and only then is there something to read.
if [ "$WATCH" != 0 ] && [ -w "$LOCKS/guard" ]; then flock -w "$WATCH" "$LOCKS/guard" true || :; fi
if [ "$WAIT" != 0 ] && [ -w "$LOCKS/activate" ]; then flock -w "$WAIT" "$LOCKS/activate" true || fact activating 1; fi
now
read_links
read_units
# Side by side may be done what tells its facts in short lines: those come whole.
python_facts &
health_facts &
machine_facts
file_facts
loopback_fact
unit_facts
probation_facts
maintenance_facts
activity_facts
[ "$SURVEY" = 0 ] || survey_facts
[ "$RIGHTS" = 0 ] || isolation_facts
wait
[ "$SHOW" = 0 ] || shown_files
release_facts
manifest_facts
[ "$JOURNAL" = 0 ] || journal_facts
mark end ok
