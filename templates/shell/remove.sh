# Takes the service off this host, as root: units first, then files. Its data only when that was asked for.
[ "$(id -u)" = 0 ] || refuse 'remove needs root'
record=/etc/$NAME/setup
[ -r "$record" ] || refuse "$NAME was not set up on this host by this tool: there is no $record"
step stop "$NAME"
# shellcheck disable=SC2086 # a list of names
systemctl stop $UNITS </dev/null || :
# What the record says, not service.yaml, which may have lost a process since.
for unit in $(sed -n 's#^file [0-9a-f]* /etc/systemd/system/##p' "$record") "$NAME@blue.socket" "$NAME@green.socket"; do
  case $unit in
    *@.*) ;;
    *) systemctl disable -q --now "$unit" </dev/null || : ;;
  esac
done
sed -n 's/^file [0-9a-f]* //p' "$record" | while IFS= read -r path; do
  step remove "$path"
  rm -f "$path"
done
systemctl daemon-reload </dev/null
if grep -q ' /etc/nginx/' "$record" && systemctl is-active -q nginx.service; then
  nginx -t -q </dev/null && systemctl reload nginx.service </dev/null
fi
rm -rf "${ROOT:?}" "/run/${NAME:?}" "/etc/${NAME:?}"
if [ "$DATA" = 1 ]; then
  step remove "/var/lib/$NAME"
  rm -rf "/var/lib/${NAME:?}"
  userdel "$NAME" </dev/null || :
fi
step removed "$NAME"
mark end ok
