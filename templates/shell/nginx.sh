# nginx with our site in place: it takes it, can have its ports, and answers everybody else as before.

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
