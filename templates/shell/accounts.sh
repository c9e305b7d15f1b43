# Who owns what on the host: accounts, and the directories of the service.

as_account() { as "$ACCOUNT" "$@"; }

as() { # ACCOUNT COMMAND
  runner=$1
  shift
  if [ "$runner" = root ]; then "$@"; else runuser -u "$runner" -- "$@"; fi
}

# Whoever may write in a directory above can put another one in the place of ours.
roots_own() { # PATH...
  set -f
  IFS='
'
  # shellcheck disable=SC2046 # a line each
  set -- "$@" $(readlink -m "$@")
  unset IFS
  set +f
  given=$#
  for place; do
    while [ "$place" != / ]; do
      if [ -e "$place" ] || [ -L "$place" ]; then set -- "$@" "$place"; fi
      place=${place%/*}
      place=${place:-/}
    done
  done
  shift "$given"
  found=$(find / "$@" -maxdepth 0 '(' ! -uid 0 -o ! -type l '(' -perm -o+w -o -perm -g+w ! -gid 0 ')' ')' -print -quit)
  [ -z "$found" ] || refuse "$found is not root's alone, and root writes below it: chown root:root $found && chmod go-w $found"
}

make_accounts() {
  id -u "$ACCOUNT" >/dev/null 2>&1 || refuse "there is no account $ACCOUNT on this host"
  if id -u "$NAME" >/dev/null 2>&1; then
    [ "$(id -u "$NAME")" -lt 1000 ] || refuse "the account $NAME is a person's: give the service another name"
  else
    step account "$NAME"
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$NAME" </dev/null
  fi
  [ "$ACCOUNT" = root ] || usermod -a -G systemd-journal "$ACCOUNT" </dev/null
}

# Another account deploys from now on. What the former one owned is taken from it before anything of it is trusted.
take_over() {
  former=$(sed -n 's/^account //p' "/etc/$NAME/setup" 2>/dev/null) || former=
  [ -n "$former" ] && [ "$former" != "$ACCOUNT" ] && [ -d "$ROOT" ] || return 0
  step account "$ROOT goes from $former to $ACCOUNT"
  give="$ACCOUNT:$(id -gn "$ACCOUNT")"
  from=$(id -u "$former" 2>/dev/null || stat -c %u "$ROOT")
  none_of_others
  # What new links could be planted in goes first.
  find "$ROOT" '(' -type d -o -path "$ROOT/.activating" ')' -uid "$from" -exec chown -h "$give" {} +
  none_of_others
  find "$ROOT" -uid "$from" -exec chown -h "$give" {} +
  planted=$(find "$ROOT" "$ROOT/slots" -maxdepth 1 -type l ! -path "$ROOT/current" -print -quit)
  [ -z "$planted" ] || refuse "$planted is a symbolic link, and none of ours: remove it, and run setup again"
}

# A file of anybody else may be a hard link to one of root's.
none_of_others() {
  foreign=$(find "$ROOT" ! -uid "$from" ! -user "$ACCOUNT" -print -quit)
  [ -z "$foreign" ] || refuse "$foreign is neither $former's nor $ACCOUNT's: remove it, and run setup again"
}

make_directories() {
  install -d -m 0755 /opt/apps "/etc/$NAME" "/etc/$NAME/tls"
  [ ! -L "$ROOT" ] || refuse "$ROOT is a symbolic link"
  take_over
  install -d -m 0755 -o "$ACCOUNT" -g "$(id -gn "$ACCOUNT")" "$ROOT"
  # What lies below belongs to the deploy account, so that account makes it: root follows none of its links.
  as_account mkdir -p "$ROOT/releases" "$ROOT/venvs" "$ROOT/wheels" "$ROOT/slots/blue" "$ROOT/slots/green" </dev/null
  as_account tee "$ROOT/README" <"$work/files/README" >/dev/null
}
