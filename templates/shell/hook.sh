# Runs before_activate of a staged release, once for a whole deploy, as the service's user. Nothing live is touched.
STAGE=hook
take_turn before_activate
recover
slot=$NEW
[ -f "$ROOT/releases/$ID/run/hook" ] || refuse "release $ID has no before_activate"
began=$(date +%s)
step hook "before_activate of $ID"
history before_activate "$ID" started
relink "../../releases/$ID" "$ROOT/slots/$slot/release"
point hook.start
status=0
as_root "$SYSTEMCTL" start "$NAME-hook@$slot.service" || status=$?
said "$NAME-hook@$slot.service" -n 200 --since "@$began"
if [ "$status" != 0 ]; then
  as_root "$SYSTEMCTL" reset-failed "$NAME-hook@$slot.service" || :
  history before_activate "$ID" failed
  mark failed 'before_activate failed'
  exit 1
fi
point hook.ended
history before_activate "$ID" 'done'
mark end ok
