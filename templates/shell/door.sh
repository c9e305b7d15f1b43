# The front door, before anybody else comes through it: nginx, TLS, the redirect, and names that are not ours.

# nginx leads this host's own address to the candidate, and everybody else to the live slot.
check_door() {
  [ "$FRONT" != listen ] || return 0
  step check 'the front door, before anybody else comes through it'
  lead_door "$ROOT/slots/$NEW"
  point "$STAGE.door"
  gateway=probe
  [ "$FRONT" != https ] || gateway=probe_gateway
  ask_front "$gateway" 5 --interface "$DOOR" || fail "${GATEWAY_WHY:-the front door does not answer for it: $PROBE_WHY}"
  shut_door
}

# What nginx has to do beside: all questions in one curl, whose start takes longer than an answer. The first that gets none
# is the last. Plain HTTP comes first, since curl remembers whom it was told to ask by HTTPS alone. No answer can hold the
# word that ends that of the service, since nobody knows the nonce.
probe_gateway() { # SECONDS curl-arguments...
  GATEWAY_WHY=
  limit=$1
  shift
  ask --fail-early -s -o /dev/null --noproxy '*' --max-time "$limit" --resolve "$FRONT_HOST:80:127.0.0.1" \
    -w '%{http_code} %{redirect_url}\n' "http://$FRONT_HOST/" \
    --next -s -S --globoff --path-as-is --noproxy '*' --max-time "$limit" -w "\n%{http_code}@$NONCE" "$@" \
    --next -s -k --noproxy '*' --interface "$DOOR" --max-time "$limit" --resolve stranger.invalid:443:127.0.0.1 \
    -w '%{http_code}' "https://stranger.invalid$HEALTH_PATH"
  redirected=${PROBE_BODY%%
*}
  stranger=${PROBE_BODY#*"@$NONCE"}
  case $redirected in
    "301 https://$FRONT_HOST/"* | "308 https://$FRONT_HOST/"*)
      # It ends with the status for no answer where there was none to the last question that was asked.
      if [ "$stranger" != '
000' ]; then
        PROBE_BODY=${PROBE_BODY#*
}
        PROBE_BODY=${PROBE_BODY%%"@$NONCE"*}
      fi
      judge_answer || return 1
      ;;
    *)
      probe "$limit" "$@" || return 1
      GATEWAY_WHY="plain HTTP is not redirected to HTTPS: $(printf %s "$redirected" | head -c 1000)"
      return 1
      ;;
  esac
  # Names that are not ours must not reach the service, whoever else answers them.
  case $(printf %s "$stranger" | tr -d ' ') in
    *'"release":"'"$ID"'"'*)
      GATEWAY_WHY='the service answers for any host name'
      return 1
      ;;
  esac
}
