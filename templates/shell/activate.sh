# Starts the staged release in the idle slot, checks it, moves the traffic, checks the front door, commits, and stops
# the old slot. Whatever ends this script before the commit, the trap puts back what served before.
PHASE=idle
WHY=

exec 9>>"$ROOT/.activating"
if ! flock -n 9; then
  mark busy "$(tail -n 1 "$ROOT/.activating" | head -c 4000)"
  exit 75
fi
printf '{"time":"%s","run":"%s","action":"%s","release":"%s","who":%s}\n' \
  "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$RUN" "$ACTION" "$ID" "$WHO" >"$ROOT/.activating"

ctl() { as_root "$SYSTEMCTL" "$@"; }

stop_slot() { # SLOT
  ctl stop "$NAME@$1.service" "$NAME@$1.socket"
  rm -f "/run/$NAME/try/$1"
}

# What waits in the accept queue would die with the socket: gthread takes it at once, sync workers do not.
drain_slot() { # SLOT
  now
  drain_end=$((NOW + DRAIN * 100))
  while waiting=$(ss -Hxl src "/run/$NAME/$1.sock" | awk '{ print $3 }') && [ "${waiting:-0}" != 0 ]; do
    now
    # Nobody takes from the queue of a service that is not there.
    if [ "$NOW" -ge "$drain_end" ] || ! systemctl is-active -q "$NAME@$1.service"; then break; fi
    sleep 0.05
  done
  stop_slot "$1"
}

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  # The rename decides, even when we were cut between it and the next line.
  [ "$PHASE" = finished ] || [ "$(slot_of "$ROOT/current")" != "$NEW" ] || PHASE=committed
  case $PHASE in
    switched) [ -z "$OLD" ] || relink "$ROOT/current" "/run/$NAME/ctl/live" ;;
  esac
  case $PHASE in
    candidate | switched)
      if [ "$PHASE" = switched ]; then drain_slot "$NEW"; else stop_slot "$NEW"; fi
      # Without a former release there is nothing to go back to: nothing runs, and nothing would at boot.
      if [ -z "$OLD" ]; then
        rm -f "/run/$NAME/ctl/live"
        [ -z "$LISTEN" ] || ctl stop "$NAME-listen.socket" "$NAME-listen.service"
      fi
      ctl reset-failed "$NAME@$NEW.service" "$NAME@$NEW.socket"
      history "$ACTION" "$ID" failed
      journal_of_candidate
      mark failed "${WHY:-interrupted}"
      [ "$status" != 0 ] || status=1
      ;;
    # No way back: what is left to do is done, or workers would stay with the old release.
    committed) after_commit ;;
  esac
  exit "$status"
}

journal_of_candidate() {
  journalctl -q --no-pager -o cat -n 200 -u "$NAME@$NEW.service" --since "@$STARTED" </dev/null 2>/dev/null |
    while IFS= read -r line; do mark journal "$line"; done
}

fail() {
  WHY=$*
  exit 1
}

# The first step of every run: one slot serves, and it is the committed one.
recover() {
  OLD=$(slot_of "$ROOT/current")
  if [ -z "$OLD" ]; then
    NEW=blue
  else
    case $OLD in blue) NEW=green ;; *) NEW=blue ;; esac
    if [ "$(readlink "/run/$NAME/ctl/live")" != "$ROOT/current" ]; then
      step recover "the traffic goes back to slot $OLD"
      relink "$ROOT/current" "/run/$NAME/ctl/live"
    fi
  fi
  if [ "$(systemctl is-active "$NAME@$NEW.service")" != inactive ] || [ -e "/run/$NAME/try/$NEW" ]; then
    step recover "slot $NEW is stopped"
    drain_slot "$NEW"
  fi
  if [ -n "$OLD" ] && ! systemctl is-active -q "$NAME@$OLD.service"; then
    step recover "the service is stopped, and is started by this"
  fi
  [ -z "$OLD" ] || rm -f "/run/$NAME/try/$OLD"
  rm -f "$ROOT"/*.new-* "$ROOT"/slots/*/*.new-* "/run/$NAME/ctl"/*.new-*
  serves=
  if [ -n "$OLD" ]; then serves=$(release_at "$ROOT/slots/$OLD"); fi
  if [ "$serves" != "$EXPECT" ]; then
    mark moved "$serves"
    exit 76
  fi
}

check_release() {
  release=$ROOT/releases/$ID
  [ -f "$release/MANIFEST" ] || refuse "release $ID is not on this host"
  (cd "$release/code" && sha256sum --quiet --strict -c ../MANIFEST) </dev/null ||
    refuse "release $ID is damaged on this host: run the deploy of its content again"
  "$release/venv/bin/python" -I -c 'import gunicorn' </dev/null ||
    refuse "the venv of release $ID does not work any more: run the deploy of its content again"
}

start_candidate() {
  step start "slot $NEW"
  STARTED=$(date +%s)
  mkdir -p "$ROOT/slots/$NEW"
  : >"$ROOT/slots/$NEW/is-$NEW"
  relink "/run/$NAME/$NEW.sock" "$ROOT/slots/$NEW/http.sock"
  history "$ACTION" "$ID" started
  PHASE=candidate
  relink "../../releases/$ID" "$ROOT/slots/$NEW/release"
  : >"/run/$NAME/try/$NEW"
  ctl reset-failed "$NAME@$NEW.service" "$NAME@$NEW.socket" || :
  ctl start "$NAME@$NEW.service" || fail "slot $NEW did not start"
}

# MAIN, RESTARTS, STATE and WORKERS of the candidate, as they are now.
look_at_candidate() {
  shown=$(systemctl show "$NAME@$NEW.service" --no-pager -p MainPID -p NRestarts -p ActiveState)
  MAIN=$(printf '%s\n' "$shown" | sed -n 's/^MainPID=//p')
  RESTARTS=$(printf '%s\n' "$shown" | sed -n 's/^NRestarts=//p')
  STATE=$(printf '%s\n' "$shown" | sed -n 's/^ActiveState=//p')
  WORKERS=$(cat "/proc/$MAIN/task/$MAIN/children" 2>/dev/null) || WORKERS=
}

# Who was there at the last look must be there now; more may have come, since they are forked one by one.
same_workers() {
  for pid in $HELD; do
    case " $MAIN $WORKERS " in *" $pid "*) ;; *) fail 'a worker died while it was checked' ;; esac
  done
  HELD="$MAIN $WORKERS"
}

# PASSES answers in a row, over at least SETTLE, from one and the same set of processes.
hold() {
  step check "$HEALTH_PATH on slot $NEW"
  now
  began=$NOW
  passes=0
  limit=1
  HELD=
  reason='it was never asked'
  while :; do
    # With nobody left to hear it, this ends the script at once, not when the time is up.
    mark pass "$passes"
    look_at_candidate
    case $RESTARTS$STATE in 0failed | [1-9]*) fail 'the service died while it was checked' ;; esac
    same_workers
    # A socket whose service has died keeps its callers waiting: short at first, so that a dead one shows soon.
    if probe_slot "$NEW" "$limit"; then
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
  look_at_candidate
  [ "$RESTARTS" = 0 ] || fail 'the service died while it was checked'
  same_workers
}

switch() {
  step switch "slot $NEW takes the traffic"
  PHASE=switched
  relink "$ROOT/slots/$NEW" "/run/$NAME/ctl/live"
  [ -z "$LISTEN" ] || ctl start "$NAME-listen.socket" ||
    fail "nothing can listen at $LISTEN: is it taken, or no address of this host?"
  probe_front 5 || fail "the front door does not answer for it: $PROBE_WHY"
  [ "$FRONT" != https ] || check_gateway
}

check_gateway() {
  code=$(curl -s -o /dev/null --noproxy '*' --max-time 5 --resolve "$FRONT_HOST:80:127.0.0.1" \
    -w '%{http_code} %{redirect_url}' "http://$FRONT_HOST/" </dev/null) || :
  case $code in
    "301 https://$FRONT_HOST/" | "308 https://$FRONT_HOST/") ;;
    *) fail "plain HTTP is not redirected to HTTPS: $code" ;;
  esac
  # Names that are not ours must not reach the service, whoever else answers them.
  stranger=$(curl -s -k --noproxy '*' --max-time 5 --resolve stranger.invalid:443:127.0.0.1 \
    "https://stranger.invalid$HEALTH_PATH" </dev/null | head -c 65536 | tr -d '\000 \n') || :
  case $stranger in
    *'"release":"'"$ID"'"'*) fail 'the service answers for any host name' ;;
  esac
}

commit() {
  relink "slots/$NEW" "$ROOT/current"
  PHASE=committed
}

# A signal in the middle of this begins it again, and the second time ends it.
after_commit() {
  sync "$ROOT" "$ROOT/slots/$NEW"
  relink "$ROOT/current" "/run/$NAME/ctl/live"
  case $(tail -n 1 "$ROOT/history.jsonl") in
    *"\"$RUN\""*'"state":"done"'*) ;;
    *) history "$ACTION" "$ID" "done" ;;
  esac
  sync "$ROOT/history.jsonl"
  step committed "$ID"
  # Whoever deploys to a service that was stopped and disabled wants it back, at the next boot too.
  # shellcheck disable=SC2086 # a list of names
  systemctl is-enabled -q "$NAME.service" || {
    step enable "a boot starts it again"
    ctl enable $ENABLED
  }
  ctl start "$NAME.service"
  for unit in $PROCESSES; do
    ctl restart "$unit" || : # what came of it is looked at in the end
  done
  now
  restarted=$NOW
  [ -z "$OLD" ] || {
    step drain "slot $OLD"
    drain_slot "$OLD"
    # It is stopped all the same: as failed it would look like something to recover.
    if [ "$(systemctl is-active "$NAME@$OLD.service")" = failed ]; then
      mark warning "slot $OLD did not end in good order: it had failed, or it had to be killed"
      ctl reset-failed "$NAME@$OLD.service" "$NAME@$OLD.socket"
    fi
  }
  rm -f "/run/$NAME/try/$NEW"
  PHASE=finished
}

# To systemd a unit has started even if its command ends in the next moment: look at them after a second.
watch_processes() {
  [ -n "$PROCESSES" ] || return 0
  while now && [ $((NOW - restarted)) -lt 100 ]; do sleep 0.1; done
  for unit in $PROCESSES; do
    restarts=$(systemctl show "$unit" --no-pager -p NRestarts) || restarts=
    now_is=$(systemctl is-active "$unit") || :
    case "$restarts $now_is" in
      *NRestarts=[1-9]* | *failed | *inactive | *activating)
        mark warning "$unit does not stay up: see journalctl -u $unit"
        ;;
    esac
  done
}

# Never what a slot or a process uses, nor what a rollback would go back to, nor the newest KEEP.
prune() {
  # Read before there is a grep or an mv whose own arguments name a release.
  running=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\000' ' ') || :
  kept=0
  for id in $(find "$ROOT/releases" -mindepth 1 -maxdepth 1 -type d ! -name '.*' -printf '%T@ %f\n' | sort -rn | cut -d ' ' -f 2); do
    kept=$((kept + 1))
    [ "$kept" -gt "$KEEP" ] || continue
    case " $(release_at "$ROOT/slots/blue") $(release_at "$ROOT/slots/green") $SPARE " in *" $id "*) continue ;; esac
    case $running in *"/releases/$id/"*) continue ;; esac
    step prune "$id"
    mv -T "$ROOT/releases/$id" "$ROOT/releases/.part-old-$id"
    rm -rf "$ROOT/releases/.part-old-$id"
  done
  prune_unused venvs
  prune_unused wheels
}

# A venv goes with the last release that uses it, a wheel with the last that lists it.
prune_unused() { # venvs|wheels
  exec 8>>"$ROOT/.staging"
  # Someone is staging, and may be about to use what no release uses yet.
  flock -n -x 8 || return 0
  for path in "$ROOT/$1"/*; do
    [ -e "$path" ] || continue
    if [ "$1" = venvs ]; then
      readlink "$ROOT"/releases/*/venv | grep -qxF "../../venvs/${path##*/}" && continue
    else
      cat "$ROOT"/releases/*/WHEELS 2>/dev/null | grep -qF "  ${path##*/}" && continue
    fi
    rm -rf "$path"
  done
  flock -u 8
}

recover
check_release
judge_by "$ID"
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM
start_candidate
hold
switch
commit
after_commit
watch_processes
prune
mark end ok
