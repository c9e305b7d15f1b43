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
