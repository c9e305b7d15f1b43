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

make_certificate() {
  [ "$CERTIFICATE" != off ] || return 0
  tls=/etc/$NAME/tls
  if [ "$CERTIFICATE" = self-signed ]; then
    openssl x509 -noout -checkhost "$FRONT_HOST" -in "$tls/certificate.pem" </dev/null 2>/dev/null |
      grep -q 'does match' && return 0
    step certificate "self-signed, for $FRONT_HOST"
    (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj "/CN=$NAME" -addext "subjectAltName=DNS:$FRONT_HOST" \
      -keyout "$work/key.pem" -out "$work/certificate.pem" </dev/null 2>/dev/null) || refuse 'openssl makes no certificate'
  else
    step certificate "the operator's own"
    cp "$work/files/tls/certificate.pem" "$work/files/tls/key.pem" "$work/"
    openssl x509 -noout -checkhost "$FRONT_HOST" -in "$work/certificate.pem" </dev/null | grep -q 'does match' ||
      refuse "the certificate is not for $FRONT_HOST"
    openssl x509 -noout -checkend 0 -in "$work/certificate.pem" </dev/null >/dev/null ||
      refuse 'the certificate has expired'
    [ "$(openssl x509 -noout -pubkey -in "$work/certificate.pem" </dev/null)" = \
      "$(openssl pkey -pubout -in "$work/key.pem" </dev/null)" ] || refuse 'the certificate and the key do not belong together'
  fi
  replace "$work/key.pem" "$tls/key.pem" 0600
  replace "$work/certificate.pem" "$tls/certificate.pem" 0644
}

# What is not as we wrote it, somebody edited: it is kept, ten copies of each file at most, and that is said.
keep_edited() { # PATH
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  recorded=$(awk -v WANTED="$1" '$1 ~ /^(file|tls)$/ && $3 == WANTED { print $2 }' "/etc/$NAME/setup" 2>/dev/null) || :
  if [ ! -L "$1" ] && [ "$recorded" = "$(sha256sum <"$1" | cut -d ' ' -f 1)" ]; then return 0; fi
  copy=/var/backups/integrators-loop/$NAME$1.$(date -u +%Y%m%dT%H%M%SZ)
  (umask 077 && mkdir -p "${copy%/*}")
  cp -P --remove-destination "$1" "$copy"
  [ -L "$copy" ] || chmod 0600 "$copy"
  mark warning "$1 is not as it was written here; what it was is kept as $copy"
  find "${copy%/*}" -maxdepth 1 -name "${1##*/}.[0-9]*Z" -printf '%f\n' | sort -r | tail -n +11 |
    while IFS= read -r old; do rm -f "${copy%/*}/$old"; done
}

# The new file takes its place by a rename; the former one is kept until all is well.
replace() { # NEW PATH MODE
  keep_edited "$2"
  [ -d "${2%/*}" ] || mkdir -p "${2%/*}"
  if [ -e "$2" ] || [ -L "$2" ]; then
    mkdir -p "$work/former${2%/*}"
    cp -p -P "$2" "$work/former$2"
  fi
  printf '%s\n' "$2" >>"$work/changed"
  install -m "$3" "$1" "$2.new-$RUN"
  point setup.file
  mv -T "$2.new-$RUN" "$2"
  point setup.written
}

install_files() {
  rules=$work/files/etc/sudoers.d/$NAME
  [ ! -f "$rules" ] || visudo -c -q -f "$rules" </dev/null || refuse 'visudo refuses the sudo rules'
  while IFS=' ' read -r mode path; do
    for left in "$path".new-*; do if [ -e "$left" ] || [ -L "$left" ]; then rm -f "$left"; fi; done
    if [ -L "$path" ] || ! cmp -s "$work/files$path" "$path"; then
      step write "$path"
      replace "$work/files$path" "$path" "$mode"
    fi
  done <"$work/files/MODES"
  remove_former
  rm -f "/etc/$NAME/tls"/*.new-*
}

# Units of processes that are gone, and the rules of an account that does not deploy any more.
remove_former() {
  [ -f "/etc/$NAME/setup" ] || return 0
  sed -n 's/^file [0-9a-f]* //p' "/etc/$NAME/setup" | while IFS= read -r path; do
    grep -qF " $path" "$work/files/MODES" && continue
    case $path in /etc/systemd/system/"$NAME"[-.@]* | /etc/nginx/conf.d/"$NAME".conf | /etc/sudoers.d/"$NAME") ;; *) continue ;; esac
    [ -f "$path" ] || continue
    step remove "$path"
    case $path in *.service | *.timer | *.socket) systemctl disable --now "$(basename "$path")" </dev/null || : ;; esac
    keep_edited "$path"
    mkdir -p "$work/former${path%/*}"
    cp -p "$path" "$work/former$path"
    printf '%s\n' "$path" >>"$work/changed"
    rm -f "$path"
  done
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

# By this run, or by one that was killed before it could act on that and record it.
changed() { # PART OF A PATH
  grep -qF "$1" "$work/changed" 2>/dev/null ||
    [ "$(written | grep -F "$1")" != "$(grep -F "$1" "/etc/$NAME/setup" 2>/dev/null)" ]
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

start_gateway() {
  if [ "$FRONT" = listen ]; then
    if systemctl is-active -q nginx.service && changed /etc/nginx/; then
      check_configuration
      main=$(systemctl show -p MainPID --value nginx.service)
      reload_gateway
    fi
    return
  fi
  systemctl is-enabled -q nginx.service 2>/dev/null || systemctl enable -q nginx.service </dev/null
  changed /etc/nginx/ || changed "/etc/$NAME/tls/" || ! systemctl is-active -q nginx.service || return 0
  step nginx "check and reload"
  check_configuration
  main=$(systemctl show -p MainPID --value nginx.service)
  check_port 80
  [ "$FRONT" != https ] || check_port 443
  if systemctl is-active -q nginx.service; then
    before=$(statuses_of_stranger)
    reload_gateway
    after=$(statuses_of_stranger)
    still_answers_strangers 80 "${before% *}" "${after% *}"
    still_answers_strangers 443 "${before#* }" "${after#* }"
  else
    systemctl start nginx.service </dev/null || {
      journalctl -q --no-pager -o cat -n 5 -u nginx.service </dev/null | while IFS= read -r line; do mark journal "$line"; done
      refuse 'nginx does not start'
    }
  fi
}

# With everything in place. Whose fault it is shows when our files are gone again.
check_configuration() {
  if told=$(nginx -t 2>&1 </dev/null); then
    case $told in
      *"conflicting server name \"$FRONT_HOST\""*) refuse "another site of this nginx has the name $FRONT_HOST already" ;;
    esac
    return 0
  fi
  printf '%s\n' "$told" | while IFS= read -r line; do mark journal "$line"; done
  [ ! -f "$work/changed" ] || put_back
  rm -f "$work/changed"
  nginx -t -q </dev/null >/dev/null 2>&1 ||
    refuse 'nginx refuses its own configuration, and not for a file of this service: mend it first'
  refuse 'nginx refuses the configuration with our file in place'
}

# `nginx -t` opens no port, and a reload that cannot have one goes on with the old configuration without a word.
check_port() { # PORT
  holder=$(ss -Hltnp "sport = :$1" | grep -vF "pid=$main," | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/p' |
    head -n 1)
  [ -z "$holder" ] || refuse "port $1 is held by $holder, so nginx cannot have it"
}

reload_gateway() {
  RELOADED=1
  reload_nginx || {
    tail -n 3 /var/log/nginx/error.log | while IFS= read -r line; do mark journal "$line"; done
    refuse 'nginx was told to reload, and keeps its former configuration'
  }
}

# A reload is only asked for: it is done when no worker of before takes connections any more.
reload_nginx() {
  former=$(cat "/proc/$main/task/$main/children")
  systemctl reload nginx.service </dev/null || return 1
  tries=0
  for pid in $former; do
    until [ ! -e "/proc/$pid" ] || grep -qF 'shutting down' "/proc/$pid/cmdline" 2>/dev/null; do
      tries=$((tries + 1))
      [ "$tries" -lt 500 ] || return 1
      sleep 0.02
    done
  done
}

# What a name that no site has is answered, by HTTP and by HTTPS.
statuses_of_stranger() {
  curl -s -o /dev/null --noproxy '*' --max-time 5 --resolve stranger.invalid:80:127.0.0.1 \
    -w '%{http_code} ' http://stranger.invalid/ \
    --next -s -k -o /dev/null --noproxy '*' --max-time 5 --resolve stranger.invalid:443:127.0.0.1 \
    -w '%{http_code}' https://stranger.invalid/ </dev/null || :
}

# The first site of a port gets the names of nobody, unless one says default_server; ours may have become the first.
still_answers_strangers() { # PORT BEFORE AFTER
  case $2$3 in
    000*) ;;
    *000) refuse "a site of this nginx answers for unknown names on port $1, and would not any more: add default_server to its listen $1" ;;
  esac
}

# What deploy compares with: the account, and the digest of each file as it was written.
written() {
  printf 'account %s\n' "$ACCOUNT"
  while IFS=' ' read -r _ path; do
    printf 'file %s %s\n' "$(sha256sum <"$path" | cut -d ' ' -f 1)" "$path"
  done <"$work/files/MODES"
  for path in "/etc/$NAME/tls/certificate.pem" "/etc/$NAME/tls/key.pem"; do
    [ ! -f "$path" ] || printf 'tls %s %s\n' "$(sha256sum <"$path" | cut -d ' ' -f 1)" "$path"
  done
}

record() {
  written >"/etc/$NAME/setup.new-$RUN"
  # With the record nobody needs to come again, who would take this away.
  rm -rf "$work"
  mv -T "/etc/$NAME/setup.new-$RUN" "/etc/$NAME/setup"
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
