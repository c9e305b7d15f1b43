# Holds the run's lock while the controller says that it is there: a byte every few seconds, and the end after silence.
# Whoever comes meanwhile is told who holds it; a controller that is gone holds nothing for longer than that.
lockable run
exec 9>>"$LOCKS/run"
if ! flock -n 9; then
  held_by_another run
  [ "$WAIT" != 0 ] || exit 75
  flock -w "$WAIT" 9 || exit 75
fi
printf '{"time":"%s","run":"%s","action":"%s","release":"%s","who":%s}\n' \
  "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$RUN" "$ACTION" "$ID" "$WHO" >"$LOCKS/run"
point hold.taken
# Who asked before it was taken sees by this whether another run has come between.
last=$(tail -c 4000 "$ROOT/history.jsonl" 2>/dev/null) || last=
mark last "${last##*
}"
mark held "$RUN"
while [ -n "$(timeout 30 head -c 1)" ]; do :; done
mark end ok
