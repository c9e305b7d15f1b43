# The front door, before anybody else comes through it: nginx, TLS, the redirect, and names that are not ours.

# nginx leads whoever shows the host's own secret to the candidate, and everybody else to the live slot.
check_door() {
  [ "$FRONT" != listen ] || return 0
  step check 'the front door, before anybody else comes through it'
  point "$STAGE.door"
  gateway=probe
  [ "$FRONT" != https ] || gateway=probe_gateway
  [ -r "/etc/$NAME/check/$NEW" ] || fail "/etc/$NAME/check/$NEW, the secret of this check, cannot be read: run fab setup"
  ask_front "$gateway" 5 --header "@/etc/$NAME/check/$NEW" || fail "${GATEWAY_WHY:-the front door does not answer for it: $PROBE_WHY}"
}

# What nginx has to do beside, in GATEWAY_WHY, and the door itself, as `probe` has it.
probe_gateway() { # SECONDS curl-arguments...
  GATEWAY_WHY=
  ask_gateway "$@"
  redirected=${PROBE_BODY%%
*}
  # From its end, which is quick however long it is.
  stranger=${PROBE_BODY##*"@$NONCE"}
  case $redirected in
    "301 https://$FRONT_HOST/"* | "308 https://$FRONT_HOST/"*) ;;
    *)
      # Who answers nothing at all does not redirect either.
      probe "$@" && GATEWAY_WHY="plain HTTP is not redirected to HTTPS: $(printf %s "$redirected" | head -c 1000)"
      return 1
      ;;
  esac
  judge_door "$@" || return 1
  # Names that are not ours must not reach the service, whoever else answers them, and is not told the secret.
  case $(printf %s "$stranger" | tr -d ' ') in *'"release":"'"${serves:-$ID}"'"'*) ;; *) return 0 ;; esac
  GATEWAY_WHY='the service answers for any host name'
  return 1
}

# Between the first line, which is of plain HTTP, and the stranger's.
judge_door() { # SECONDS curl-arguments...
  case $stranger in
    "$PROBE_BODY")
      PROBE_WHY='the answer is longer than 64 kB'
      return 1
      ;;
    # The status for no answer, and nothing else: it was the last question, and curl says why when it is asked alone.
    '
000')
      probe "$@" && GATEWAY_WHY='the front door did not answer for it at first'
      return 1
      ;;
  esac
  PROBE_BODY=${PROBE_BODY#*
}
  PROBE_BODY=${PROBE_BODY%"@$NONCE$stranger"}
  judge_answer
}

# All questions in one curl, whose start takes longer than an answer. The first that gets none is the last. Plain HTTP
# comes first, since curl remembers whom it was told to ask by HTTPS alone. The answer of the service ends with the nonce:
# whatever it says, it cannot have said that by chance, nor have read it among the arguments of a program.
ask_gateway() { # SECONDS curl-arguments...
  limit=$1
  shift
  ask --fail-early -s -o /dev/null --noproxy '*' --max-time "$limit" --resolve "$FRONT_HOST:80:127.0.0.1" \
    -w '%{http_code} %{redirect_url}\n' "http://$FRONT_HOST/" \
    --next -s --globoff --path-as-is --noproxy '*' --max-time "$limit" -w @- "$@" \
    --next -s -k --noproxy '*' --max-time "$limit" --resolve stranger.invalid:443:127.0.0.1 \
    -w '%{http_code}' "https://stranger.invalid$HEALTH_PATH" <<END
\n%{http_code}@$NONCE
END
}
