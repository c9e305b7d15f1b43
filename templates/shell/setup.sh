# Makes a host ready for one service, as root, and may be run again at any time. Files are checked before or with their
# place taken, and the former bytes are put back if the host's own programs refuse the new ones.
work=$(mktemp -d /run/integrators-loop.XXXXXXXX)
chmod 0700 "$work"
printf '%s\n' "$$" >"$work/pid"
COMMITTED=
RELOADED=
LISTENED=

leave() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  if [ -z "$COMMITTED" ] && [ -f "$work/changed" ]; then put_back; fi
  rm -rf "$work"
  exit "$status"
}
trap leave EXIT
trap 'exit 129' HUP INT PIPE TERM

put_back() {
  step undo "the former files are put back"
  point setup.undo
  # shellcheck disable=SC2086 # a list of names
  [ -f "/etc/$NAME/setup" ] || systemctl disable -q $UNITS </dev/null || :
  while IFS= read -r path; do
    if [ -e "$work/former$path" ] || [ -L "$work/former$path" ]; then cp -p -P --remove-destination "$work/former$path" "$path"; else rm -f "$path"; fi
  done <"$work/changed"
  systemctl daemon-reload </dev/null
  [ -z "$RELOADED" ] || reload_nginx || :
  [ -z "$LISTENED" ] || systemctl start "$NAME-listen.socket" </dev/null
}

# What a setup left that was killed: a key may lie there.
forget_killed() {
  for left in /run/integrators-loop.*; do
    pid=$(cat "$left/pid" 2>/dev/null) || continue
    [ -d "/proc/$pid" ] || rm -rf "$left"
  done
}

# Never in the middle of somebody's switch. The lock lies in a directory that is not root's, where a link may have been
# planted: so the owner opens it, and holds it for as long as this runs.
take_turn() {
  [ -d "$ROOT" ] && [ ! -L "$ROOT" ] || return 0
  owner=$(stat -c %U "$ROOT")
  # Of an account that is gone nobody is at work.
  id -u "$owner" >/dev/null 2>&1 || return 0
  mkfifo "$work/going" "$work/turn"
  # shellcheck disable=SC2016 # expanded by the inner shell
  as "$owner" /bin/sh -c '
    { [ ! -e "$1" ] || [ -f "$1" ]; } && exec 9>>"$1" || exit 1
    if ! flock -n 9; then
      # The end of a probation is waited for, as long as a slot may drain.
      if [ ! -s "$2" ] || flock -n "$2" true || ! flock -w "$3" 9; then
        printf "busy %s\n" "$(tail -n 1 "$1" | head -c 4000)"
        exit 75
      fi
    fi
    printf "%s\n" "$4" >"$1"
    echo held
    exec cat >/dev/null' sh "$ROOT/.activating" "/run/$NAME/ctl/probation/until" $((2 * DRAIN + GRACE + 30)) \
    "$(printf '{"time":"%s","run":"%s","action":"setup","release":"%s","who":%s,"group":0}' \
      "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$RUN" "$(release_at "$ROOT/current")" "$WHO")" <"$work/going" >"$work/turn" &
  exec 8>"$work/going"
  IFS=' ' read -r turn holder <"$work/turn" || turn=
  case $turn in
    held) ;;
    busy)
      mark busy "$holder"
      exit 75
      ;;
    *) refuse "$owner cannot lock $ROOT/.activating: remove that, and run setup again" ;;
  esac
}

install_packages() {
  [ -n "$PACKAGES" ] || return 0
  step packages "$PACKAGES"
  # shellcheck disable=SC2086 # a list of names
  if command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=0 -o Acquire::http::Timeout=20 \
      -o DPkg::Lock::Timeout=60 install $PACKAGES </dev/null && return 0
  elif command -v dnf >/dev/null; then
    dnf -q -y install $PACKAGES </dev/null && return 0
  fi
  refuse "these packages are missing, and no mirror gave them: $PACKAGES. Install them on this host, and run setup again"
}

start_units() {
  systemd-tmpfiles --create "/etc/tmpfiles.d/$NAME.conf" </dev/null
  point setup.tmpfiles
  # Who was told to stay down at a boot stays so, until it is started or deployed.
  if [ ! -f "/etc/$NAME/setup" ] || [ "$(systemctl is-enabled "$NAME.service" 2>/dev/null)" != disabled ]; then
    # By default it would reload, too: the longest step of all on a host with many units, and once is enough.
    # shellcheck disable=SC2086 # a list of names
    systemctl enable -q --no-reload $UNITS </dev/null
  fi
  systemctl daemon-reload </dev/null
  point setup.reloaded
  # shellcheck disable=SC2086 # a list of names
  set -- $UNITS
  for state in $(systemctl show -p LoadState --value "$@"); do
    [ "$state" = loaded ] || refuse "systemd does not load $1: it is $state"
    shift
  done
}

# A socket that is up keeps its former address until it is opened anew.
move_listen() {
  changed "/$NAME-listen.so" && systemctl is-active -q "$NAME-listen.socket" || return 0
  step listen "$LISTEN"
  LISTENED=1
  systemctl stop "$NAME-listen.socket" "$NAME-listen.service" </dev/null
  systemctl start "$NAME-listen.socket" </dev/null ||
    refuse "nothing can listen at $LISTEN: is it taken, or no address of this host?"
}

[ "$(id -u)" = 0 ] || refuse 'setup needs root'
forget_killed
mkdir "$work/files"
tar -x --no-same-owner -f - -C "$work/files"
roots_own /opt/apps "/etc/$NAME" /var/backups/integrators-loop
point setup.packages
install_packages
take_turn
point setup.accounts
make_accounts
point setup.directories
make_directories
# A release can be staged now, which takes longer than all that follows.
mark directories
point setup.certificate
make_certificate
point setup.files
install_files
point setup.units
start_units
point setup.enabled
point setup.listen
move_listen
point setup.gateway
start_gateway
point setup.record
record
COMMITTED=1
point setup.recorded
step ready "$NAME"
mark end ok
