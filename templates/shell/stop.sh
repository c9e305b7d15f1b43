# Stops the service: the slots after they have drained, then everything else of it.
[ -n "$(slot_of "$ROOT/current")" ] || refuse 'no release is committed on this host: there is nothing to stop'
alone stop
# What is on probation is given up: the committed release is the one that a start brings back.
ctl stop "$NAME-probation@blue.service" "$NAME-probation@green.service"
committed=$(slot_of "$ROOT/current")
[ "$(slot_of "/run/$NAME/live")" = "$committed" ] || lead "$committed"
point stop.live
now
drain_end=$((NOW + DRAIN * 100))
for slot in blue green; do await_queue "$slot" "$drain_end"; done
history stop "$(release_at "$ROOT/current")" started
point stop.stop
# shellcheck disable=SC2086 # lists of names
ctl stop $UNITS &
await_end "$!" $((DRAIN + 15)) blue green
[ -z "$KILLED" ] || mark warning "the service put off its end for longer than $((DRAIN + 15)) s, and was killed"
# What was about to be started again keeps the count of that.
for slot in blue green; do forget_starts "$slot" || :; done
point stop.stopped
if [ "$DISABLE" = 1 ]; then
  # The sockets too: the first request after a boot would start the service.
  # shellcheck disable=SC2086
  ctl disable $ENABLED
fi
history stop "$(release_at "$ROOT/current")" "done"
step stopped "$NAME"
mark end ok
