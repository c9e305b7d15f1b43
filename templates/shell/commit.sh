# The point of no return, and what follows from it for everybody who uses the service.

commit() {
  point "$STAGE.commit"
  relink "slots/$NEW" "$ROOT/current"
  PHASE=committed
  point "$STAGE.committed"
}

# On the disk, and where everybody sees it.
record_commit() {
  sync "$ROOT" "$ROOT/slots/$NEW"
  point "$STAGE.follow"
  case $(tail -n 1 "$ROOT/history.jsonl") in
    *"\"$RUN\""*'"state":"done"'*) ;;
    *) history "$ACTION" "$ID" "done" ;;
  esac
  step committed "$ID"
}

# A signal in the middle of this begins it again, and the second time ends it.
follow_up() {
  record_commit
  point "$STAGE.recorded"
  # Whoever deploys to a service that was stopped and disabled wants it back, at the next boot too.
  [ -L "/etc/systemd/system/multi-user.target.wants/$NAME.service" ] || {
    step enable "a boot starts it again"
    # shellcheck disable=SC2086 # a list of names
    ctl enable $ENABLED
  }
  [ "${FACADE_STATE:-$(systemctl is-active "$NAME.service")}" = active ] || ctl start "$NAME.service"
  point "$STAGE.facade"
  for unit in $PROCESSES; do
    ctl restart "$unit" || : # what came of it is looked at in the end
  done
  now
  restarted=$NOW
  point "$STAGE.processes"
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
