# The way back of a run, before its commit: first the traffic, then the slot that did not hold.
undo() {
  if [ "$PHASE" = switched ] && [ -n "$OLD" ]; then lead "$OLD"; fi
  forget_links
  point "$STAGE.undo"
  if [ -n "$OLD" ] && [ "$(slot_of "/run/$NAME/live")" = "$NEW" ]; then
    # Whoever answers is better than nobody.
    WHY="${WHY:-interrupted}; the traffic could not go back, and stays with slot $NEW"
    history "$ACTION" "$ID" failed "$WHY"
    return
  fi
  if [ "$PHASE" = switched ]; then
    drain_slot "$NEW"
  else
    # It has no users, and may be deaf.
    ctl kill -s KILL "$NAME@$NEW.service"
    stop_slot "$NEW"
  fi
  [ "$STOP_FIRST" = 0 ] || [ -z "$OLD" ] || systemctl is-active -q "$NAME@$OLD.service" || revive_former
  # Without a former release there is nothing to go back to: nothing runs, and nothing would at boot.
  if [ -z "$OLD" ]; then
    [ "$PHASE" != switched ] || lead none
    [ -z "$LISTEN" ] || ctl stop "$NAME-listen.socket" "$NAME-listen.service"
  fi
  point "$STAGE.undone"
  forget_starts "$NEW"
  history "$ACTION" "$ID" failed "${WHY:-interrupted}"
  point "$STAGE.failed"
}

start_former() {
  step recover "slot $OLD was stopped, and is started"
  forget_starts "$OLD"
  start_in_time "$OLD" "$NAME@$OLD.service"
}

# What was to be stopped first serves again, with its workers: whoever answers is better than nobody.
revive_former() {
  start_former || :
  for unit in $PROCESSES; do ctl restart "$unit" || :; done
}
