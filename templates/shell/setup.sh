# Makes a host ready for one service, as root, and may be run again at any time. Files are checked before or with their
# place taken, and the former bytes are put back if the host's own programs refuse the new ones.
work=$(mktemp -d /run/integrators-loop.XXXXXXXX)
chmod 0700 "$work"
COMMITTED=

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
  while IFS= read -r path; do
    if [ -f "$work/former$path" ]; then cp -p "$work/former$path" "$path"; else rm -f "$path"; fi
  done <"$work/changed"
  systemctl daemon-reload </dev/null
}

as_account() {
  if [ "$ACCOUNT" = root ]; then "$@"; else runuser -u "$ACCOUNT" -- "$@"; fi </dev/null
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

make_directories() {
  install -d -m 0755 /opt/apps "/etc/$NAME" "/etc/$NAME/tls"
  [ ! -L "$ROOT" ] || refuse "$ROOT is a symbolic link"
  install -d -m 0755 -o "$ACCOUNT" -g "$(id -gn "$ACCOUNT")" "$ROOT"
  # What lies below belongs to the deploy account, so that account makes it: root follows none of its links.
  as_account mkdir -p "$ROOT/releases" "$ROOT/venvs" "$ROOT/wheels" "$ROOT/slots/blue" "$ROOT/slots/green"
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
      -keyout "$work/key.pem" -out "$work/certificate.pem" </dev/null 2>/dev/null)
  else
    step certificate "the operator's own"
    cp "$work/files/tls/certificate.pem" "$work/files/tls/key.pem" "$work/"
  fi
  [ "$(openssl x509 -noout -pubkey -in "$work/certificate.pem" </dev/null)" = \
    "$(openssl pkey -pubout -in "$work/key.pem" </dev/null)" ] || refuse 'the certificate and the key do not belong together'
  replace "$work/key.pem" "$tls/key.pem" 0600
  replace "$work/certificate.pem" "$tls/certificate.pem" 0644
}

# The new file takes its place by a rename; the former one is kept until all is well.
replace() { # NEW PATH MODE
  mkdir -p "$(dirname "$2")" "$work/former$(dirname "$2")"
  [ ! -f "$2" ] || cp -p "$2" "$work/former$2"
  printf '%s\n' "$2" >>"$work/changed"
  install -m "$3" "$1" "$2.new-$RUN"
  mv -T "$2.new-$RUN" "$2"
}

install_files() {
  visudo -c -q -f "$work/files/etc/sudoers.d/$NAME" </dev/null || refuse 'visudo refuses the sudo rules'
  while IFS=' ' read -r mode path; do
    if ! cmp -s "$work/files$path" "$path"; then
      step write "$path"
      replace "$work/files$path" "$path" "$mode"
    fi
  done <"$work/files/MODES"
  remove_former
  rm -f "/etc/$NAME/tls"/*.new-*
}

# Units of processes that the service does not have any more.
remove_former() {
  [ -f "/etc/$NAME/setup" ] || return 0
  sed -n 's/^file [0-9a-f]* //p' "/etc/$NAME/setup" | while IFS= read -r path; do
    grep -qF " $path" "$work/files/MODES" && continue
    case $path in /etc/systemd/system/"$NAME"[-.@]* | /etc/nginx/conf.d/"$NAME".conf) ;; *) continue ;; esac
    [ -f "$path" ] || continue
    step remove "$path"
    case $path in *.service | *.timer | *.socket) systemctl disable --now "$(basename "$path")" </dev/null || : ;; esac
    mkdir -p "$work/former$(dirname "$path")"
    cp -p "$path" "$work/former$path"
    printf '%s\n' "$path" >>"$work/changed"
    rm -f "$path"
  done
}

start_units() {
  systemd-tmpfiles --create "/etc/tmpfiles.d/$NAME.conf" </dev/null
  systemctl daemon-reload </dev/null
  for unit in $UNITS; do
    [ "$(systemctl show -p LoadState --value "$unit")" = loaded ] || refuse "systemd does not load $unit"
  done
  # shellcheck disable=SC2086 # a list of names
  systemctl enable -q $UNITS </dev/null
}

start_gateway() {
  [ "$FRONT" != listen ] || return 0
  grep -qF "/etc/nginx/" "$work/changed" 2>/dev/null || grep -qF "/etc/$NAME/tls/" "$work/changed" 2>/dev/null ||
    ! systemctl is-active -q nginx.service || return 0
  step nginx "check and reload"
  nginx -t -q </dev/null || refuse 'nginx refuses the configuration with our file in place'
  if systemctl is-active -q nginx.service; then
    systemctl reload nginx.service </dev/null
  else
    systemctl enable -q nginx.service </dev/null
    systemctl start nginx.service </dev/null || {
      journalctl -q --no-pager -o cat -n 5 -u nginx.service </dev/null | while IFS= read -r line; do mark journal "$line"; done
      refuse 'nginx does not start'
    }
  fi
}

# What deploy compares with: the account, and the digest of each file as it was written.
record() {
  {
    printf 'account %s\n' "$ACCOUNT"
    while IFS=' ' read -r _ path; do
      printf 'file %s %s\n' "$(sha256sum <"$path" | cut -d ' ' -f 1)" "$path"
    done <"$work/files/MODES"
  } >"$work/setup"
  install -m 0644 "$work/setup" "/etc/$NAME/setup"
}

[ "$(id -u)" = 0 ] || refuse 'setup needs root'
mkdir "$work/files"
tar -x --no-same-owner -f - -C "$work/files"
install_packages
make_accounts
make_directories
make_certificate
install_files
start_units
start_gateway
record
COMMITTED=1
step ready "$NAME"
mark end ok
