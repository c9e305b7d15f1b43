# The first step of every run: one slot serves, and it is the committed one. OLD: that slot, nothing before the first
# release; NEW: the idle one; RETURNED: whether the traffic had to come back, from a probation or from a run that died;
# OLD_STATE and FACADE_STATE: as systemd has them.
recover() {
  point "$STAGE.recover"
  read_links
  OLD=$CURRENT
  case $OLD in blue) NEW=green ;; *) NEW=blue ;; esac
  RETURNED=
  tried=$LIVE
  # shellcheck disable=SC2046 # five words
  set -- $(systemctl is-active "$NAME@$NEW.service" "$NAME-probation@blue.service" "$NAME-probation@green.service" \
    "$NAME@${OLD:-none}.service" "$NAME.service")
  OLD_STATE=$4
  FACADE_STATE=$5
  if [ "$2$3" != inactiveinactive ]; then
    # It would take the end of its slot for a failure.
    ctl stop "$NAME-probation@blue.service" "$NAME-probation@green.service"
    ctl reset-failed "$NAME-probation@blue.service" "$NAME-probation@green.service" || :
    read_links
  fi
  if [ "$LIVE" != "$OLD" ]; then
    [ -z "$OLD" ] || step recover "the traffic goes back to slot $OLD"
    lead "${OLD:-none}"
  elif [ -n "$OLD" ] && [ "$tried" = "$NEW" ]; then
    # A watch that was told to end has moved it back by itself.
    step recover "the probation of $(release_at "$ROOT/slots/$NEW") is ended: slot $OLD has the traffic"
  fi
  [ -z "$OLD" ] || [ "$tried" != "$NEW" ] || RETURNED=1
  point "$STAGE.returned"
  if [ "$1" != inactive ] || [ -e "/run/$NAME/try/$NEW" ]; then
    step recover "slot $NEW is stopped"
    # By the operator's word it gets no time to harm what comes next.
    [ "${STOP_FIRST:-0}" = 0 ] || ctl kill -s KILL "$NAME@$NEW.service" || :
    drain_slot "$NEW"
    forget_starts "$NEW" || :
  fi
  point "$STAGE.idle"
  [ -z "$OLD" ] || [ ! -e "/run/$NAME/try/$OLD" ] || rm -f "/run/$NAME/try/$OLD"
  forget_links
}
