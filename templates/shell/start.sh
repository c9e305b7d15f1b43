# Starts the committed release, and lets it start at boot again.
[ -n "$(slot_of "$ROOT/current")" ] || refuse 'no release is committed on this host: deploy one'
alone start
ID=$(release_at "$ROOT/current")
judge_by "$ID"
history start "$ID" started
point start.enable
# shellcheck disable=SC2086 # a list of names
ctl enable $ENABLED
point start.start
slot=$(slot_of "$ROOT/current")
forget_starts "$slot" || :
ctl start "$NAME.service"
# The facade alone may have been stopped and started: the slots come with it, and this one is asked for by name.
ctl start "$NAME@$slot.service"
now
began=$NOW
until probe_slot "$slot" 5; do
  now
  if [ $((NOW - began)) -ge $((HEALTH_TIMEOUT * 100)) ]; then
    said "$NAME@$slot.service" -n 20
    history start "$ID" failed
    refuse "release $ID is started, and its health check does not hold: $PROBE_WHY"
  fi
  sleep 0.1
done
point start.started
history start "$ID" "done"
step started "$ID"
mark end ok
