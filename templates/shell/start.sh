# Starts the committed release, and lets it start at boot again.
[ -n "$(slot_of "$ROOT/current")" ] || refuse 'no release is committed on this host: deploy one'
alone start

# With the service's last words.
give_up() { # WHY
  said "$NAME@$slot.service" -n 20
  history start "$ID" failed
  refuse "$1"
}

# What systemd or sudo has said stands for itself.
not_ready() {
  now
  [ $((NOW - began)) -ge $((START_TIMEOUT * 100)) ] || exit 1
  give_up "release $ID was not ready within $START_TIMEOUT s of its start"
}

ID=$(release_at "$ROOT/current")
judge_by "$ID"
history start "$ID" started
point start.enable
# shellcheck disable=SC2086 # a list of names
ctl enable $ENABLED
point start.start
slot=$(slot_of "$ROOT/current")
forget_starts "$slot" || :
now
began=$NOW
start_in_time "$slot" "$NAME.service"
# The facade alone may have been stopped and started: the slots come with it, and this one is asked for by name.
start_in_time "$slot" "$NAME@$slot.service" || not_ready
now
began=$NOW
until probe_slot "$slot" 5; do
  now
  [ $((NOW - began)) -lt $((HEALTH_TIMEOUT * 100)) ] ||
    give_up "release $ID is started, and its health check does not hold: $PROBE_WHY"
  sleep 0.1
done
point start.started
history start "$ID" "done"
step started "$ID"
mark end ok
