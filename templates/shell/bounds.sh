# A release may put off its start and its end a little at a time, and for ever (EXTEND_TIMEOUT_USEC). So every wait for
# either has a bound, at which all its processes are killed.

# Wait for a child of ours that stops slots. KILLED: whether that took longer than SECONDS.
await_end() { # PID SECONDS SLOT...
  ending=$1 bound=$2
  shift 2
  KILLED=
  # As in drain_slot: it holds no lock of ours.
  ! kill -0 "$ending" 2>/dev/null ||
    timeout "$bound" tail -s 0.05 -f --pid="$ending" /dev/null </dev/null >/dev/null 2>&1 6>&- 7>&- 8>&- 9>&- || :
  if kill -0 "$ending" 2>/dev/null; then
    KILLED=1
    for overdue; do ctl kill -s KILL "$NAME@$overdue.service" || :; done
  fi
  wait "$ending"
}

# Start a unit that a slot comes up with. Systemd has the same limit; a release that talks it out of that is killed.
start_in_time() { # SLOT UNIT
  ctl start "$2" 9>&- &
  starting=$!
  # It ends by itself: a signal to a shell that has just begun might reach the traps of this one.
  {
    timeout $((START_TIMEOUT + 5)) tail -s 1 -f --pid="$starting" /dev/null ||
      [ $? != 124 ] || ctl kill -s KILL "$NAME@$1.service"
  } </dev/null >/dev/null 2>&1 6>&- 7>&- 8>&- 9>&- &
  wait "$starting"
}
