# Started by systemd beside a run, as the deploy account. First it guards the run: should that be killed, what it has
# committed is finished, and what it has not is taken back. Then it watches the new release: the former one is still up,
# and what fails is taken back to it. What holds is committed. A boot in this time is the way back as well: `current` has not moved.
# The file `until` says which: empty, as long as a run is at work; the end of the probation; `taken`, for what it left, or
# `drain`, for the old slot, each with since when; `done`.
PHASE=guarding
WHY=
STAGE=probation
# The journal reads this, in words.
mark() {
  case $1 in pass | end) ;; *) printf '%s\n' "$*" ;; esac
}

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  [ "$PHASE" != guarding ] || on_probation || PHASE=finished
  case $PHASE in
    finished | draining) ;;
    *) [ "$(slot_of "$ROOT/current")" != "$NEW" ] || PHASE=committed ;;
  esac
  case $PHASE$status in
    # Who ended it goes on from here.
    draining129) ;;
    draining*) retire ;;
    candidate* | switched*) undo ;;
    watched129 | guarding*) ended_early ;;
    watched*) give_up ;;
    # Who stops the whole service must not see it started again.
    committed129) record_commit ;;
    committed*)
      follow_up
      retire
      ;;
  esac
  exit "$status"
}

# Whether the run has done its part, and this release is to be watched.
on_probation() {
  IFS= read -r until <"$watch/until" || until=
  case $until in '' | *[!0-9]*) return 1 ;; esac
  [ "$(slot_of "/run/$NAME/live")" = "$NEW" ]
}

move_back() {
  lead "$OLD" || return
  point probation.returned
  rm -f "/run/$NAME/try/$NEW"
}

# By the next run, by somebody who stops the service, or by a shutdown: whoever it was goes on from here.
ended_early() {
  move_back
  history "$ACTION" "$ID" ended 'its probation was ended before its time: by another run, a stop or a reboot'
}

# First the traffic, which needs nobody's leave; then, unless another run has begun, the slot.
give_up() {
  WHY=${WHY:-its watch ended with status $status}
  # Somebody may have stopped what this goes back to.
  systemctl is-active -q "$NAME@$OLD.service" || start_former
  move_back
  # Whoever answers is better than nobody.
  [ "$(slot_of "/run/$NAME/live")" != "$NEW" ] || return
  history "$ACTION" "$ID" returned "$WHY"
  printf 'release %s did not hold: %s. The traffic is back on %s\n' "$ID" "$WHY" "$(release_at "$ROOT/current")"
  # A run that holds the lock may be stopping this unit: keep accepting signals, or the two deadlock.
  trap - HUP INT PIPE TERM
  exec 9>>"$LOCKS/activate"
  flock -w 60 9 || return 0
  trap '' HUP INT PIPE TERM
  drain_slot "$NEW"
  forget_starts "$NEW"
}

# Two misses in a row, or every second answer for a while, are too many; one of many is not.
miss() { # WHY
  missed=$((missed + 2))
  [ "$missed" -lt 4 ] || fail "its health check did not hold: $1"
}

# Of the account that both slots have, whoever served before may have sent it.
by_whom() {
  [ "$RESULT" != signal ] || printf %s ': a signal has ended it. If the release before it did that, deploy with --stop-first'
}

# To its end, and beyond it while something is in doubt: as in the beginning, for a watch that comes late.
watch_slot() {
  HELD=
  HELD_MAIN=
  missed=1
  while now && { [ "$NOW" -lt "$until" ] || [ "$missed" != 0 ]; }; do
    point probation.watch
    if look_at "$NEW"; then
      [ "$STATE $RESTARTS $MAIN" = "active 0 ${HELD_MAIN:-$MAIN}" ] || fail "its main process died, or was stopped$(by_whom)"
      same_processes || fail 'a worker died'
    else
      miss 'systemd does not answer'
    fi
    if probe_slot "$NEW" 5; then
      [ "$missed" = 0 ] || missed=$((missed - 1))
    else
      miss "$PROBE_WHY"
    fi
    sleep 0.5
  done
}

taken() {
  now
  printf 'taken %s\n' "$NOW" >"$watch/until"
}

# The run is dead, and had not committed.
take_back() {
  occupy "$ACTION" "$ID" "$GROUP"
  taken
  WHY='the script of its run was killed on this host'
  [ -n "$(slot_of "$ROOT/current")" ] || OLD=
  case $(slot_of "/run/$NAME/live") in
    "$NEW") PHASE=switched ;;
    *) PHASE=candidate ;;
  esac
  exit 1
}

NEW=$SLOT
case $NEW in blue) OLD=green ;; *) OLD=blue ;; esac
# The first release of a host comes after none.
[ -L "$ROOT/slots/$OLD/release" ] || OLD=
# Held for as long as this lasts: who wants to know the end waits for it.
exec 6>>"$LOCKS/guard"
flock 6
# A step breaks once: systemd begins this again, and then it goes on.
[ -z "$FAILPOINT" ] || printf '%s\n' "$NONCE" "$RUN" "$WHO" '' >"$watch/run"
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM
exec 9>>"$LOCKS/activate"
flock 9
group
if [ "$(slot_of "$ROOT/current")" != "$NEW" ]; then
  if on_probation; then
    flock -u 9
    PHASE=watched
    judge_by "$ID"
    watch_slot
    flock 9
  else
    # The run undid it, or another has ended the trial.
    case $until in '' | taken*) take_back ;; *) exit 0 ;; esac
  fi
fi
occupy "$ACTION" "$ID" "$GROUP"
IFS= read -r until <"$watch/until" || until=
case $until in
  done) exit 0 ;;
  # All the rest was done by the run.
  drain*) PHASE=draining ;;
  # Whoever died after the commit, run or watch, is finished here.
  *)
    [ -s "$watch/until" ] || taken
    PHASE=watched
    commit
    follow_up
    watch_processes
    ;;
esac
retire
prune
finished
rm -f "$watch/run"
