# Starts the staged release in the idle slot, checks it, moves the traffic, and commits it, or leaves that to its probation.
# Whatever ends this script before, the trap puts back what served.
PHASE=idle
WHY=
STAGE=activate
[ "$ACTION" != undo ] || STAGE=undo

take_turn "$ACTION"
point "$STAGE.begin"

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  # The rename decides, even when we were cut between it and the next line.
  [ "$PHASE" = finished ] || [ "$(slot_of "$ROOT/current")" != "$NEW" ] || PHASE=committed
  case $PHASE in
    idle) forget_links ;;
    candidate | switched)
      undo
      journal_of_candidate
      mark failed "${WHY:-interrupted}"
      [ "$status" != 0 ] || status=1
      ;;
    # No way back: what is left to do is done, or workers would stay with the old release.
    committed)
      follow_up
      hand_over
      ;;
  esac
  # On probation it has just begun.
  [ -s "$watch/until" ] || finished
  exit "$status"
}

journal_of_candidate() {
  now
  # In hundredths of a second, and two of them earlier: both clocks are read in whole ones.
  since=$(($(date +%s%N) / 10000000 - (NOW - started) - 2))
  since=$((since / 100)).$(printf %02d $((since % 100)))
  said "$NAME@$NEW.service" -n 200 --since "@$since"
}

# The committed release must be what the plan saw, before or after the end of a probation.
expected() {
  linked "$OLD"
  serves=$RELEASE
  mark before "$serves"
  [ "$serves" != "$EXPECT" ] || return 0
  case " $EXPECT " in *" ${serves:-nothing} "*) return 0 ;; esac
  mark moved "$serves"
  exit 76
}

# What was asked for is the committed release, which has been up all the while: the traffic is back, and that is all.
came_back() {
  [ -n "$RETURNED" ] && [ "$ID" = "$serves" ] && [ "$ACTION" != restart ] &&
    probe_slot "$OLD" 5 && probe_front 5
}

# Begun early, since both only read: what they find is asked for by check_release. What is done beside this script never
# holds its lock, or whoever comes next would meet that.
inspect() {
  release=$ROOT/releases/$ID
  [ -f "$release/MANIFEST" ] || return 0
  (cd "$release/code" && sha256sum --quiet --strict -c ../MANIFEST) </dev/null 9>&- &
  digesting=$!
  venv_whole "$release/venv" </dev/null 9>&- &
  trying=$!
}

check_release() {
  [ -f "$release/MANIFEST" ] || refuse "release $ID is not on this host"
  wait "$digesting" || refuse "release $ID is damaged on this host: run the deploy of its content again"
  launchers_intact "$release" || refuse "how release $ID is started was edited on this host: run the deploy of its content again"
  wait "$trying" || refuse "$(venv_broken)"
}

venv_broken() { printf %s "the venv of release $ID is damaged, or its Python is gone: run the deploy of its content again"; }

# Of what fails to start, the reason that an operator can do something about.
not_started() {
  now
  [ $((NOW - started)) -lt $((START_TIMEOUT * 100)) ] ||
    fail "slot $NEW was not ready within $START_TIMEOUT s of its start: health.timeout is too short, or it hangs"
  RESULT=
  look_at "$NEW" || :
  [ "$RESULT" != signal ] || ended "slot $NEW did not start"
  if venv_whole "$release/venv"; then fail "slot $NEW did not start"; else fail "slot $NEW did not start: $(venv_broken)"; fi
}

# Nothing can be watched against a former release that is not there, or not up.
choose_watch() {
  unwatched=
  if [ -z "$OLD" ]; then
    unwatched='no former release'
  elif [ "$OLD_STATE" != active ]; then
    step recover "the service is stopped, and is started by this"
    unwatched='no former release that is up'
  elif [ "$STOP_FIRST" = 1 ]; then
    unwatched='no former release that is still up'
  fi
  [ "$PROBATION" = 0 ] || [ -z "$unwatched" ] || {
    PROBATION=0
    step probation "none: there is $unwatched to go back to, so it is committed at once"
  }
}

# Where the slot was started within the minute for which systemd counts; beside what is looked at before it starts again.
forget_recent_starts() {
  forgetting=
  linked "$NEW"
  # What is no time, or lies in the future, counts as now.
  case $PLACED in '' | *[!0-9]*) PLACED=$TURN ;; esac
  [ $((TURN - PLACED)) -le 60 ] || return 0
  forget_starts "$NEW" 9>&- &
  forgetting=$!
}

# Should this script be killed, the host finishes what is committed, and takes back what is not. It starts while the
# application does.
post_guard() {
  : >"$watch/until"
  # The nonce is ours alone.
  umask 077
  printf '%s\n' "$NONCE" "$RUN" "$WHO" "$FAILPOINT" >"$watch/run"
  umask 022
  ctl start "$NAME-probation@$NEW.service" 9>&- &
  posting=$!
}

await_guard() {
  now
  guard_end=$((NOW + 500))
  until guarded; do
    now
    [ "$NOW" -lt "$guard_end" ] || fail 'its guard did not start'
    sleep 0.02
  done
}

# Rules that an older version wrote know the slots alone.
may_stop_companions() {
  [ "$MY_ID" != 0 ] && [ -n "$COMPANIONS" ] || return 0
  # shellcheck disable=SC2086 # lists of names
  sudo -n -l "$SYSTEMCTL" stop $COMPANIONS $TIMERS </dev/null >/dev/null 2>&1
}

# Before its successor starts, which it could end: they are of one account, as are the workers and jobs of its release. The
# guard is there by now, and starts it again should this script be killed.
stop_former() {
  silent=
  [ "$STOP_FIRST" = 1 ] && [ -n "$OLD" ] || return 0
  wait "$posting" || fail 'its guard did not start'
  await_guard
  may_stop_companions || fail "sudo does not know all that --stop-first needs: fab setup writes the rules. Nothing was stopped"
  step stop "slot $OLD, before slot $NEW starts: nobody is answered until that has the traffic"
  now
  silent=$NOW
  ctl kill -s KILL "$NAME@$OLD.service" || :
  ctl stop "$NAME@$OLD.service" "$NAME@$OLD.socket"
  if [ -n "$COMPANIONS" ]; then
    # shellcheck disable=SC2086 # lists of names
    ctl kill -s KILL $COMPANIONS || :
    # shellcheck disable=SC2086
    ctl stop $COMPANIONS $TIMERS
  fi
  forget_starts "$OLD" || :
  now
  started=$NOW
}

start_candidate() {
  step start "slot $NEW"
  now
  started=$NOW
  [ -d "$ROOT/slots/$NEW" ] || mkdir -p "$ROOT/slots/$NEW"
  : >"$ROOT/slots/$NEW/is-$NEW"
  history "$ACTION" "$ID" started
  PHASE=candidate
  point "$STAGE.intent"
  relink "../../releases/$ID" "$ROOT/slots/$NEW/release"
  point "$STAGE.placed"
  : >"/run/$NAME/try/$NEW"
  [ -z "$forgetting" ] || wait "$forgetting" || :
  point "$STAGE.start"
  post_guard
  stop_former
  point "$STAGE.posted"
  start_slot "$NEW" || not_started
  point "$STAGE.started"
}

switch() {
  point "$STAGE.checked"
  step switch "slot $NEW takes the traffic"
  PHASE=switched
  lead "$NEW" || fail "the traffic cannot be moved: see journalctl -u $NAME-live@$NEW"
  point "$STAGE.switch"
  [ -z "$LISTEN" ] || ctl start "$NAME-listen.socket" ||
    fail "nothing can listen at $LISTEN: is it taken, or no address of this host?"
  probe_front 5 || fail "the front door does not answer for it: $PROBE_WHY"
  [ -z "$silent" ] || {
    now
    step switch "nobody was answered for $(((NOW - silent + 99) / 100)) s"
  }
  point "$STAGE.front"
}

# From here on the host watches by itself, and goes back by itself: nobody has to be there.
begin_probation() {
  step probation "for $PROBATION s slot $OLD stays up, and the host goes back to it if this one fails"
  history "$ACTION" "$ID" probation
  point activate.probation
  now
  printf '%s\n' "$((NOW + PROBATION * 100))" >"$watch/until"
  PHASE=finished
  # It has waited for this lock, and is not to wait for a script that hangs here.
  flock -u 9
  point activate.watching
  mark probation "$PROBATION"
}

# The new release serves, and is committed. Its guard has the time to let the old slot drain, and to make room.
hand_over() {
  [ -z "$OLD" ] || step drain "slot $OLD, which the host does by itself"
  point "$STAGE.handover"
  now
  printf 'drain %s\n' "$NOW" >"$watch/until"
  PHASE=finished
}

# Asked once, and not again by everything that is done beside this.
MY_ID=$(id -u)
inspect
recover
forget_recent_starts
expected
judge_by "$ID"
if came_back; then
  history "$ACTION" "$ID" started
  history "$ACTION" "$ID" "done"
  step committed "$ID"
  mark end ok
  exit 0
fi
check_release
choose_watch
[ -d "$watch" ] || mkdir -p "$watch"
cat >"$watch/script"
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM
point "$STAGE.trapped"
start_candidate
[ -n "$silent" ] || wait "$posting" || fail 'its guard did not start'
point "$STAGE.guarded"
hold "$NEW" "$started"
point "$STAGE.held"
check_door
await_guard
switch
if [ "$PROBATION" = 0 ]; then
  commit
  follow_up
  watch_processes
  hand_over
else
  begin_probation
fi
mark end ok
