# One question to the health check. PROBE_CODE is the status, 000 without an answer; PROBE_WHY says what was wrong.
probe() { # SECONDS curl-arguments...
  probe_limit=$1
  shift
  ask -s -S --globoff --path-as-is --noproxy '*' --max-time "$probe_limit" --write-out '\n%{http_code}' "$@" </dev/null
  judge_answer
}

# What curl says, in PROBE_BODY. 64 kB at most: of a longer answer the status, which comes last, is cut off, and it does
# not pass. A curl that failed may have seen a status all the same: an answer without an end is none.
ask() { # curl-arguments...
  # bash says so where it leaves out a NUL.
  {
    PROBE_BODY=$({ curl "$@" 2>&1 || printf '\n000'; } | head -c 65536)
  } 2>/dev/null
}

judge_answer() {
  PROBE_CODE=${PROBE_BODY##*
}
  PROBE_BODY=${PROBE_BODY%
*}
  case $PROBE_CODE in
    000) PROBE_BODY=$(printf '%s\n' "$PROBE_BODY" | sed -n 's/.*\(curl: ([0-9]*).*\)/\1/p' | tail -n 1) ;;
    [0-9][0-9][0-9]) ;;
    *)
      PROBE_CODE=000
      PROBE_BODY='the answer is longer than 64 kB'
      ;;
  esac
  if [ "$PROBE_CODE" = 000 ]; then
    PROBE_WHY="no answer: $(printf %s "$PROBE_BODY" | head -c 200)"
  elif [ "$PROBE_CODE" != "$HEALTH_STATUS" ]; then
    PROBE_WHY="answered $PROBE_CODE, not $HEALTH_STATUS: $(printf %s "$PROBE_BODY" | tr '\n' ' ' | head -c 200)"
  else
    PROBE_WHY=
    names_release "$PROBE_BODY"
  fi
  [ -z "$PROBE_WHY" ]
}

# An application that reports a release has to report this one.
names_release() {
  case $1 in
    # As most write it: no program has to be started.
    *'"release":"'"$ID"'"'* | *'"release": "'"$ID"'"'*) return ;;
    *'"release"'*) ;;
    *) return 0 ;;
  esac
  case $(printf %s "$1" | tr -d ' \n') in
    *'"release":"'"$ID"'"'*) ;;
    *'"release":"'*) PROBE_WHY="answered for another release than $ID" ;;
  esac
}

# A release is held to its own health check: the one of service.yaml as it is now may ask for what came later.
judge_by() { # RELEASE
  [ -f "$ROOT/releases/$1/health" ] || return 0
  {
    IFS= read -r HEALTH_PATH
    IFS= read -r HEALTH_STATUS
  } <"$ROOT/releases/$1/health"
}

probe_slot() { # SLOT SECONDS
  probe "$2" --unix-socket "/run/$NAME/$1.sock" \
    --header "Host: $FRONT_HOST" --header 'X-Forwarded-Proto: https' "http://$FRONT_HOST$HEALTH_PATH"
}

probe_front() { # SECONDS
  # Maintenance turns everybody away but who shows the host's own secret.
  if [ -e "$ROOT/maintenance" ]; then
    ask_front probe "$1" --header "@/etc/$NAME/check/live"
  else
    ask_front probe "$1"
  fi
}

ask_front() { # FUNCTION SECONDS curl-arguments...
  case $FRONT in
    https) "$@" --cacert "/etc/$NAME/tls/certificate.pem" --resolve "$FRONT_HOST:443:127.0.0.1" \
      "https://$FRONT_HOST$HEALTH_PATH" ;;
    http) "$@" --resolve "$FRONT_HOST:80:127.0.0.1" "http://$FRONT_HOST$HEALTH_PATH" ;;
    listen) "$1" "$2" "http://$LISTEN$HEALTH_PATH" ;;
  esac
}
