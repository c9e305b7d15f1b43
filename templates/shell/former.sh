# A run whose controller is gone, and that is still at work: it gets time to come to its end, and then it is ended. For
# those who hold the lock of the run, since then nobody else is alive.

# The group of processes that this script is of, as the next run finds it in the lock's file.
group() {
  IFS=' ' read -r _ _ _ _ GROUP _ </proc/self/stat
}

# Those of a group that still hold a lock: nothing else that may have got its number since.
end_former() { # SIGNAL LOCK DESCRIPTOR GROUP
  find /proc/[0-9]*/fd/"$3" -lname "$2" 2>/dev/null | while IFS= read -r path; do
    pid=${path%/fd/*} pid=${pid##*/}
    IFS=' ' read -r _ _ _ _ its _ 2>/dev/null <"/proc/$pid/stat" || continue
    if [ "$its" = "$4" ]; then kill -s "$1" "$pid" 2>/dev/null || :; fi
  done
}

# For as long as somebody hears us.
wait_for() { # DESCRIPTOR SECONDS
  left=$2
  until flock -w 1 "$1"; do
    mark pass 0
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
  done
}

# In place of `alone`, for a run.
take_turn() { # ACTION
  lockable activate
  exec 9>>"$LOCKS/activate"
  group
  turn || after_the_watch || outlive
  occupy "$1" "$ID" "$GROUP"
}

outlive() {
  former=$(sed -n 's/.*"group":\([1-9][0-9]*\)}$/\1/p' "$LOCKS/activate")
  # Somebody else's process is no run of ours, and does not end for it.
  if [ -z "$former" ] || [ "$former" = "$GROUP" ] || [ -n "$(stranger_at activate)" ]; then occupied; fi
  step wait 'a run whose controller is gone comes to its end'
  if wait_for 9 $((DRAIN + 15)); then return; fi
  step wait 'what it left hangs, and is ended'
  end_former TERM "$LOCKS/activate" 9 "$former"
  if wait_for 9 $((DRAIN + 15)); then return; fi
  end_former KILL "$LOCKS/activate" 9 "$former"
  wait_for 9 5 || occupied
}
