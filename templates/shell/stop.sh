# Stops the service: the slots after they have drained, then everything else of it.
[ -n "$(slot_of "$ROOT/current")" ] || refuse 'no release is committed on this host: there is nothing to stop'
# Never in the middle of somebody's switch.
exec 9>>"$ROOT/.activating"
if ! flock -n 9; then
  mark busy "$(tail -n 1 "$ROOT/.activating" | head -c 4000)"
  exit 75
fi
now
drain_end=$((NOW + DRAIN * 100))
for slot in blue green; do
  while waiting=$(ss -Hxl src "/run/$NAME/$slot.sock" | awk '{ print $3 }') && [ "${waiting:-0}" != 0 ]; do
    now
    [ "$NOW" -lt "$drain_end" ] || break
    sleep 0.05
  done
done
history stop "$(release_at "$ROOT/current")" started
# shellcheck disable=SC2086 # lists of names
as_root "$SYSTEMCTL" stop $UNITS
if [ "$DISABLE" = 1 ]; then
  # The sockets too: the first request after a boot would start the service.
  # shellcheck disable=SC2086
  as_root "$SYSTEMCTL" disable $ENABLED
fi
history stop "$(release_at "$ROOT/current")" "done"
step stopped "$NAME"
mark end ok
