# Turns everybody away, or lets them in again: nginx looks for one directory, which a rename brings and takes.
closed=$ROOT/maintenance
work=$ROOT/.maintenance-$RUN
PHASE=idle

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  if [ "$PHASE" = trying ]; then take_away; fi
  rm -rf "$work"
  exit "$status"
}
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM

take_away() {
  # Within one directory, so that it also takes what root made by hand; to clear that away is then root's.
  mv -T "$closed" "$work-former"
  sync "$ROOT"
  rm -rf "$work-former" || mark warning "$work-former is root's, and stays until root removes it"
}

front_code() {
  case $FRONT in https) port=443 ;; *) port=80 ;; esac
  curl -s -k -o /dev/null --noproxy '*' --max-time 5 --resolve "$FRONT_HOST:$port:127.0.0.1" \
    --write-out '%{http_code}' "$FRONT://$FRONT_HOST$HEALTH_PATH" </dev/null || :
}

close_door() {
  mkdir "$work/new"
  tar -x -m --no-same-owner --no-same-permissions -f - -C "$work/new"
  sync -f "$work/new"
  history maintenance-on "$(release_at "$ROOT/current")" started
  if [ -d "$closed" ] && [ -w "$closed" ]; then
    # It is closed already, so the page changes under it, and the door never opens.
    for file in "$work/new"/*; do mv -T "$file" "$closed/${file##*/}"; done
  else
    if [ -e "$closed" ] || [ -L "$closed" ]; then take_away; fi
    PHASE=trying
    mv -T "$work/new" "$closed"
  fi
  sync "$ROOT"
  code=$(front_code)
  if [ "$code" != 503 ]; then
    history maintenance-on "$(release_at "$ROOT/current")" failed
    refuse "the front door answers $code and not 503: nginx does not run, or its file was not written by this version of fab setup"
  fi
  PHASE=closed
  history maintenance-on "$(release_at "$ROOT/current")" "done"
  step closed "clients get 503"
}

open_door() {
  if [ ! -e "$closed" ] && [ ! -L "$closed" ]; then
    step open "it was open already"
    return
  fi
  history maintenance-off "$(release_at "$ROOT/current")" started
  take_away
  history maintenance-off "$(release_at "$ROOT/current")" "done"
  step open "clients are served"
}

[ -d "$ROOT" ] || refuse "$NAME is not set up on this host: fab setup"
rm -rf "$ROOT"/.maintenance-* 2>/dev/null || :
mkdir "$work"
case $TURN in
  on) close_door ;;
  off) open_door ;;
esac
mark end ok
