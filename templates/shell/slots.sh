# The two slots: who may change them, and how one is stopped without cutting anybody off.
watch=/run/$NAME/ctl/probation

# One at a time on a host, and never in the middle of somebody's switch.
alone() { # ACTION
  lockable activate
  exec 9>>"$LOCKS/activate"
  turn || after_the_watch || occupied
  occupy "$1" "$(release_at "$ROOT/current")" 0
}

# Who is at work here, since TURN, in seconds since 1970. GROUP: of the processes that may be ended when their controller
# is gone; 0: they may not.
occupy() { # ACTION RELEASE GROUP
  time=$(date -u '+%Y-%m-%dT%H:%M:%SZ %s')
  TURN=${time#* }
  printf '{"time":"%s","run":"%s","action":"%s","release":"%s","who":%s,"group":%s}\n' \
    "${time% *}" "$RUN" "$1" "$2" "$WHO" "$3" >"$LOCKS/activate"
}

occupied() {
  held_by_another activate
  exit 75
}

# Of a run that has died its guard takes this lock next, and goes first.
turn() {
  flock -n 9 || return 1
  if [ -s "$watch/until" ] || ! guarded; then return 0; fi
  flock -u 9
  step recover 'what a run that has died left behind is put in order, which is waited for'
  flock -w $((2 * DRAIN + GRACE + 30)) "$LOCKS/guard" true
  flock -n 9
}

guarded() { [ -f "$watch/until" ] && ! flock -n 5 5<"$LOCKS/guard"; }

# Nothing is left to do for it.
finished() { printf 'done\n' >"$watch/until" || :; }

# The end of a probation, and of the former slot, is the host's own work, and nobody's run: it is waited for.
after_the_watch() {
  if [ ! -s "$watch/until" ] || ! guarded; then return 1; fi
  IFS= read -r what <"$watch/until" || :
  case $what in
    drain*) step recover 'the last requests to the former release come to their end, which is waited for' ;;
    *) step recover 'a probation comes to its end, which is waited for' ;;
  esac
  flock -w $((2 * DRAIN + GRACE + 30)) 9
}

# Where all traffic goes: the link is root's, who moves it by a rename; none before the first release serves.
lead() { ctl start "$NAME-live@$1.service"; } # SLOT

# Links that never came to take a place.
forget_links() {
  for link in "$ROOT"/*.new-* "$ROOT"/slots/*/*.new-*; do [ ! -L "$link" ] || rm -f "$link"; done
}

ctl() { as_root "$SYSTEMCTL" "$@"; }

# The start limit counts our starts too, for a minute: forgotten in time, or when systemd has refused one.
forget_starts() { ctl reset-failed "$NAME@$1.service" "$NAME@$1.socket"; } # SLOT

start_slot() { # SLOT
  start_in_time "$1" "$NAME@$1.service" && return
  case $(systemctl show "$NAME@$1.service" "$NAME@$1.socket" --no-pager -p Result) in
    *start-limit-hit*) forget_starts "$1" && start_in_time "$1" "$NAME@$1.service" ;;
    *) return 1 ;;
  esac
}

stop_slot() { # SLOT
  ctl stop "$NAME@$1.service" "$NAME@$1.socket"
  [ ! -e "/run/$NAME/try/$1" ] || rm -f "/run/$NAME/try/$1"
}

# The file of a slot's socket as ss names it, in SOCKET_AT: any user can bind a socket to the same path in a mount
# namespace of his own. ss takes the kernel's number of a device, minor in the lowest 20 bits, for the C library's.
find_socket() { # SLOT
  SOCKET_AT=none
  found=$(stat -c '%i %d' "/run/$NAME/$1.sock" 2>/dev/null) || return 0
  inode=${found% *} device=${found#* }
  device=$(((device >> 8 & 0xfff) << 20 | (device >> 12 & 0xfff00) | (device & 0xff)))
  SOCKET_AT="ino:$((inode & 0xffffffff)) dev:$((device >> 8 & 0xfff))/$((device >> 12 & 0xfff00 | device & 0xff))"
}

# Where the kernel cannot tell ss the file, the path has to do.
sockets_of() { # SLOT SS'S OPTIONS
  socket=/run/$NAME/$1.sock
  shift
  ss -Hxe "$@" src "$socket" | while IFS= read -r line; do
    case "$line " in *" $SOCKET_AT "*) ;; *' ino:'*) continue ;; esac
    printf '%s\n' "$line"
  done
}

# What waits in the accept queue would die with the socket: gthread takes it at once, sync workers do not.
await_queue() { # SLOT DEADLINE
  queue=$1 queue_end=$2
  find_socket "$queue"
  # The third word of what it says, if anything, is how many wait.
  # shellcheck disable=SC2046 # words
  while set -- $(sockets_of "$queue" -l) && [ "${3:-0}" != 0 ]; do
    now
    # Nobody takes from the queue of a service that is not there.
    if [ "$NOW" -ge "$queue_end" ] || ! systemctl is-active -q "$NAME@$queue.service"; then return; fi
    sleep 0.05
  done
}

drain_slot() { # SLOT
  draining=$1
  now
  await_queue "$draining" $((NOW + DRAIN * 100))
  stop_slot "$draining" &
  stopping=$!
  now
  drain_end=$((NOW + DRAIN * 100))
  # One program that looks for its end costs less than many naps. It holds no lock of ours, does not end because nobody
  # hears us, and takes 0 for no limit.
  [ "$DRAIN" = 0 ] ||
    timeout "$DRAIN" tail -s 0.05 -f --pid="$stopping" /dev/null </dev/null >/dev/null 2>&1 6>&- 7>&- 8>&- 9>&- || :
  left=0
  # Who is still there when the application's own patience ends is cut off: counted just before, while all of them are.
  while kill -0 "$stopping" 2>/dev/null && now && [ $((NOW - drain_end)) -lt $((GRACE * 100 - 10)) ]; do
    left=$(sockets_of "$draining" state connected | wc -l)
    sleep 0.02
  done
  await_end "$stopping" $((15 - GRACE)) "$draining"
  [ -z "$KILLED" ] || mark warning "slot $draining put off its end for longer than $((DRAIN + 15)) s, and was killed"
  now
  [ "$left" = 0 ] || [ $((NOW - drain_end)) -lt $((GRACE * 100)) ] ||
    mark warning "slot $draining: $left requests were still under way after $DRAIN s, and were cut off"
}
