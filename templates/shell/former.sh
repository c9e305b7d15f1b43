# A run whose controller is gone, and that is still at work, is found by its group.

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
