# Whether a slot holds: it answers as it should, from one and the same set of processes.

# MAIN, RESTARTS, STATE, RESULT and WORKERS of a slot, as they are now.
look_at() { # SLOT
  shown=$(systemctl show "$NAME@$1.service" --no-pager -p MainPID -p NRestarts -p ActiveState -p Result) || return 1
  MAIN='' RESTARTS='' STATE='' RESULT='' WORKERS=''
  for property in $shown; do
    case $property in
      MainPID=*) MAIN=${property#*=} ;;
      NRestarts=*) RESTARTS=${property#*=} ;;
      ActiveState=*) STATE=${property#*=} ;;
      Result=*) RESULT=${property#*=} ;;
    esac
  done
  read_workers || :
}

# As long as they can be read the main process is who it was, and nobody has to be asked about it.
read_workers() {
  [ -r "/proc/$MAIN/task/$MAIN/children" ] || return 1
  # It ends without a newline.
  IFS= read -r WORKERS 2>/dev/null <"/proc/$MAIN/task/$MAIN/children" || :
}

# Whether workers end by themselves after so many requests: then their end is no sign of anything.
recycles() { grep -qs 'max.requests' "$ROOT/releases/$ID/run/web" "$ROOT/releases/$ID/code/gunicorn.conf.py"; }

# Who was there at the last look must be there now; more may have come, since they are forked one by one.
same_processes() {
  for pid in $HELD; do
    case " $MAIN $WORKERS " in *" $pid "*) continue ;; esac
    [ "$pid" != "$HELD_MAIN" ] || return 1
    recycles || return 1
  done
  HELD="$MAIN $WORKERS"
  HELD_MAIN=$MAIN
}

# PASSES answers in a row, over at least SETTLE.
hold() { # SLOT STARTED
  step check "$HEALTH_PATH on slot $1"
  now
  began=$NOW
  passes=0
  # A socket whose service has died keeps its callers waiting: short at first, so that a dead one shows soon. But who was
  # slow to start, on a host that has much to do, may be as slow to answer.
  limit=$((1 + (NOW - $2) / 50))
  [ "$limit" -le 5 ] || limit=5
  HELD=
  HELD_MAIN=
  reason='it was never asked'
  while :; do
    # With nobody left to hear it, this ends the script at once, not when the time is up.
    mark pass "$passes"
    { [ -n "$HELD_MAIN" ] && read_workers; } || look_at "$1"
    case $RESTARTS$STATE in 0failed | [1-9]*) ended 'the service died while it was checked' ;; esac
    same_processes || ended 'a worker died while it was checked'
    if probe_slot "$1" "$limit"; then
      now
      [ "$passes" != 0 ] || first=$NOW
      passes=$((passes + 1))
      [ "$passes" -lt "$HEALTH_PASSES" ] || [ $((NOW - first)) -lt "$HEALTH_SETTLE" ] || break
      sleep "$HEALTH_PAUSE"
    else
      passes=0
      reason=$PROBE_WHY
      [ "$limit" = 5 ] || limit=$((limit + 1))
      sleep 0.1
    fi
    now
    [ $((NOW - began)) -lt $((HEALTH_TIMEOUT * 100)) ] || fail "the health check did not hold in $HEALTH_TIMEOUT s: $reason"
  done
  read_workers || look_at "$1"
  [ "$RESTARTS" = 0 ] || ended 'the service died while it was checked'
  same_processes || ended 'a worker died while it was checked'
}

# A process of the candidate has ended. What serves is of the same account, and may have done that; nobody here has.
ended() { # WHY
  # Where a worker cannot begin its work, all of it ends in the next moments, by itself: that was nobody else.
  tries=0
  while [ "$RESULT" != exit-code ] && [ "$RESULT" != signal ] && [ "$tries" -lt 20 ]; do
    sleep 0.1
    look_at "$NEW" || :
    tries=$((tries + 1))
  done
  [ "$RESULT" = exit-code ] || [ -z "$OLD" ] || [ "$STOP_FIRST" = 1 ] || mark killed "$ACTION $ID"
  [ "$RESULT" != signal ] || fail "$1: a signal has ended it"
  fail "$1"
}

fail() {
  WHY=$*
  exit 1
}
