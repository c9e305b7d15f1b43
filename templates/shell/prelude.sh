# The first lines of every script that runs on a host. Standard input carries, in this order: this
# text, a nonce, the run's id, who runs it (one line of JSON), a failpoint or an empty line, and then the payload.
set -eu
exec 2>&1
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 022
IFS= read -r NONCE
IFS= read -r RUN
IFS= read -r WHO
IFS= read -r FAILPOINT

# Only lines that carry the nonce are ours: what the application prints cannot forge one.
mark() { printf '@%s %s\n' "$NONCE" "$*"; }
step() { mark step "$*"; }
refuse() {
  mark refused "$*"
  exit 1
}

# What a unit said last, and apart from it what systemd said of the unit: by what journald saw, whatever the lines claim.
said() { # UNIT [JOURNALCTL'S OPTIONS]
  unit=$1
  shift
  # A line has no end but what is set to it, and a shell reads byte by byte.
  journalctl -q --no-pager -o cat "$@" "_SYSTEMD_UNIT=$unit" </dev/null 2>/dev/null | cut -b -4000 |
    while IFS= read -r line; do mark journal "$line"; done
  # What it says of a unit's end begins with the unit's name; that a job has begun or ended tells nobody why.
  journalctl -q --no-pager -o cat "$@" _PID=1 _UID=0 "UNIT=$unit" </dev/null 2>/dev/null | cut -b -4000 |
    while IFS= read -r line; do case $line in "$unit: "*) mark systemd "$line" ;; esac done
}

# A named place in a script, where a test makes it fail, die or stall; `fab failpoints` lists them all. Once: what follows
# is the way out, which may pass here again.
point() { # STAGE.STEP
  case $FAILPOINT in
    "$1=fail")
      FAILPOINT=
      WHY="failpoint $1"
      mark refused "$WHY"
      exit 1
      ;;
    "$1=die") kill -9 $$ ;;
    "$1=stall")
      FAILPOINT=
      mark step stall "$1"
      while :; do sleep 1; done
      ;;
  esac
}

# Hundredths of a second since boot: no fork, and no clock that someone sets.
now() {
  IFS=' ' read -r uptime _ </proc/uptime
  NOW=${uptime%.*}${uptime#*.}
}

# As the sudo rules have it: below /bin where that is a directory of its own.
SYSTEMCTL=$(command -v systemctl) || SYSTEMCTL=/usr/bin/systemctl

# The files that coordinate what is done here: root's directory, in which they have their names, and the deploy account's
# files, which nobody else can open.
LOCKS=/run/$NAME/lock

lockable() { # LOCK
  [ -w "$LOCKS/$1" ] || refuse "$(id -un) cannot write to $LOCKS/$1, which setup and each boot make: run fab setup"
}

# A lock as the kernel names it, in LOCK_AT: device and inode.
find_lock() { # LOCK
  found=$(stat -c '%D %i' "$LOCKS/$1" 2>/dev/null) || return 1
  device=$((0x${found% *}))
  LOCK_AT=$(printf '%02x:%02x:%s' $((device >> 8 & 0xfff)) $((device & 0xff | device >> 12 & 0xfff00)) "${found#* }")
}

# A process that holds a lock and is neither root's nor of the lock's owner, in words. It cannot have opened the file, but
# may have inherited it open.
stranger_at() { # LOCK
  find_lock "$1" && [ -r /proc/locks ] || return 0
  owner=$(stat -c %U "$LOCKS/$1")
  while IFS=' ' read -r _ kind _ _ pid where _; do
    [ "$kind $where" = "FLOCK $LOCK_AT" ] || continue
    whose=$(stat -c %U "/proc/$pid" 2>/dev/null) || continue
    case $whose in root | "$owner") continue ;; esac
    printf 'process %s of %s, which is neither root nor %s' "$pid" "$whose" "$owner"
    return
  done </proc/locks
}

# Says who holds a lock, which is busy, and ends.
held_by_another() { # LOCK
  stranger=$(stranger_at "$1")
  [ -z "$stranger" ] || refuse "$LOCKS/$1 is held by $stranger: look at it on this host, and end it"
  mark busy "$(tail -n 1 "$LOCKS/$1" | head -c 4000)"
}

as_root() {
  [ -n "${MY_ID:-}" ] || MY_ID=$(id -u)
  if [ "$MY_ID" = 0 ]; then "$@"; else sudo -n "$@"; fi </dev/null
}

# The release that a link leads to, or nothing.
release_at() {
  target=$(readlink "$1/release" 2>/dev/null) || target=
  printf '%s' "${target##*/}"
}

# How a release is started is as it was written.
launchers_intact() { # RELEASE
  [ ! -f "$1/LAUNCHERS" ] || (cd "$1" && sha256sum --quiet --strict -c LAUNCHERS) </dev/null
}

slot_of() {
  target=$(readlink "$1" 2>/dev/null) || target=
  name_slot "$target"
  printf %s "$NAMED"
}

# The slot, in NAMED, that a link leads to by its last word.
name_slot() { # TARGET
  case $1 in
    */blue | blue) NAMED=blue ;;
    */green | green) NAMED=green ;;
    *) NAMED= ;;
  esac
}

# One line, on the disk when this returns. What a power cut left half-written ends where the next line begins.
history() { # ACTION RELEASE STATE [WHY]
  (
    # Who did what is for the deploy account alone.
    umask 077
    flock -w 10 7 || :
    torn=
    if [ -s "$ROOT/history.jsonl" ] && [ -n "$(tail -c 1 "$ROOT/history.jsonl")" ]; then torn='\n'; fi
    # What a host or an application said goes in as plain words.
    why=
    [ -z "${4:-}" ] || why=$(printf %s "$4" | tr -c 'A-Za-z0-9 .,:;()/_-' ' ' | head -c 300)
    printf "$torn"'{"time":"%s","run":"%s","action":"%s","release":"%s","state":"%s","who":%s%s}\n' \
      "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$RUN" "$1" "$2" "$3" "$WHO" "${why:+,\"why\":\"$why\"}" >>"$ROOT/history.jsonl"
    sync "$ROOT/history.jsonl"
    # At the end of what was begun there is time to look at its size.
    [ "$3" = started ] || [ "$(wc -c <"$ROOT/history.jsonl")" -le 1000000 ] || shorten_history || :
  ) 7>>"$LOCKS/history"
}

# The last third as it is, and of what came before the switches that were done: what a rollback goes back through.
shorten_history() {
  lines=$(tail -c 300000 "$ROOT/history.jsonl" | wc -l)
  {
    head -n "-$((lines - 1))" "$ROOT/history.jsonl" | committed_switches | tail -c 300000 | sed '1{/^{/!d}'
    tail -n "$((lines - 1))" "$ROOT/history.jsonl"
  } >"$ROOT/.history-new" </dev/null
  sync "$ROOT/.history-new"
  mv -T "$ROOT/.history-new" "$ROOT/history.jsonl"
  sync "$ROOT"
}

committed_switches() { grep -aE '"action":"(deploy|rollback)",.*"state":"done"' || :; }

# A link is replaced by a rename, so that there is no moment without one.
relink() { # TARGET LINK
  ln -sfn "$1" "$2.new-$RUN"
  mv -T "$2.new-$RUN" "$2"
}
