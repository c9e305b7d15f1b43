# Watches a release after its switch, as the deploy account, started by systemd: the former one is still up, and what fails
# is taken back to it. What holds is committed. A boot in this time is the way back as well: `current` has not moved.
PHASE=watched
WHY=
STAGE=probation
watch=/run/$NAME/ctl/probation
# The journal reads this, in words.
mark() {
  case $1 in pass | end) ;; *) printf '%s\n' "$*" ;; esac
}

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  [ "$PHASE" = finished ] || [ "$(slot_of "$ROOT/current")" != "$NEW" ] || PHASE=committed
  case $PHASE in
    watched) give_up ;;
    committed) after_commit ;;
  esac
  exit "$status"
}

# First the traffic, which needs nobody's leave; then, unless another run has begun, the slot.
give_up() {
  relink "$ROOT/current" "/run/$NAME/ctl/live"
  point probation.returned
  rm -f "/run/$NAME/try/$NEW"
  # Told to end: whoever said so goes on from here.
  [ -n "$WHY" ] || return 0
  history "$ACTION" "$ID" returned "$WHY"
  printf 'release %s did not hold: %s. The traffic is back on %s\n' "$ID" "$WHY" "$(release_at "$ROOT/current")"
  # Who is at work already begins by stopping this slot, after it has stopped this watch: it must not be waited for.
  exec 9>>"$ROOT/.activating"
  flock -n 9 || return 0
  drain_slot "$NEW"
  ctl reset-failed "$NAME@$NEW.service" "$NAME@$NEW.socket"
}

watch_slot() {
  IFS= read -r until <"$watch/until"
  HELD=
  HELD_MAIN=
  missed=
  while now && [ "$NOW" -lt "$until" ]; do
    point probation.watch
    look_at "$NEW"
    [ "$STATE" = active ] || fail 'its service is not up any more'
    [ "$RESTARTS" = 0 ] || fail 'its main process died'
    same_processes || fail 'a worker died'
    if probe_slot "$NEW" 2; then
      missed=
    else
      [ -z "$missed" ] || fail "its health check failed twice in a row: $PROBE_WHY"
      missed=1
    fi
    sleep 0.5
  done
}

NEW=$SLOT
case $NEW in blue) OLD=green ;; *) OLD=blue ;; esac
# Held for as long as this lasts: who wants to know the end waits for it.
exec 6>>"$watch/until"
flock 6
# A step breaks once: systemd begins this again, and then it goes on.
[ -z "$FAILPOINT" ] || printf '%s\n' "$NONCE" "$RUN" "$WHO" '' >"$watch/run"
# Killed after the commit, it goes on there; and where another run has ended the trial, there is nothing to do.
if [ "$(slot_of "$ROOT/current")" != "$NEW" ]; then
  [ "$(readlink "/run/$NAME/ctl/live")" = "$ROOT/slots/$NEW" ] || exit 0
  judge_by "$ID"
  trap leave EXIT
  trap 'exit 129' HUP INT PIPE TERM
  watch_slot
fi
exec 9>>"$ROOT/.activating"
flock 9
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM
commit
after_commit
watch_processes
prune
rm -f "$watch/run"
