# The units of a service, asked about in one call. What later questions need of a slot is kept: STATE_*, and WATCH_* of
# its probation.
read_units() {
  STATE_BLUE='' STATE_GREEN='' WATCH_BLUE='' WATCH_GREEN='' JOBS=''
  # shellcheck disable=SC2086 # a list of names
  set -- nginx.service "$NAME.service" "$NAME@blue.service" "$NAME@green.service" \
    "$NAME-probation@blue.service" "$NAME-probation@green.service" $PROCESSES
  if [ "$SURVEY" = 0 ]; then
    read_states "$@"
    return
  fi
  for unit in $PROCESSES; do
    case $unit in *.timer) JOBS="$JOBS ${unit%.timer}.service" ;; esac
  done
  # shellcheck disable=SC2086 # a list of names
  read_properties "$@" $JOBS
}

# Whether they are up is all that a run wants to know, and is told in half the time.
read_states() { # UNIT...
  states=$(systemctl is-active "$@" 2>/dev/null) || :
  for state in $states; do
    unit_property "$1" ActiveState "$state"
    shift
  done
}

# One after another as they were asked for, with an empty line between.
read_properties() { # UNIT...
  units=$(systemctl show --no-pager -p ActiveState -p MainPID -p NRestarts \
    -p ActiveEnterTimestampMonotonic -p MemoryCurrent \
    -p Result -p ExecMainStatus -p ExecMainExitTimestampMonotonic "$@" 2>/dev/null) || units=
  while IFS= read -r line; do
    case $line in
      '') shift ;;
      *) unit_property "$1" "${line%%=*}" "${line#*=}" ;;
    esac
  done <<EOF
$units
EOF
}

unit_property() { # UNIT KEY VALUE
  case " $JOBS " in *" $1 "*)
    fact "job.$1.$2" "$3"
    return
    ;;
  esac
  case $1:$2 in
    nginx.service:ActiveState) fact nginx "$3" ;;
    "$NAME.service":ActiveState) fact facade "$3" ;;
    "$NAME"@blue.service:*)
      fact "slot.blue.$2" "$3"
      [ "$2" != ActiveState ] || STATE_BLUE=$3
      ;;
    "$NAME"@green.service:*)
      fact "slot.green.$2" "$3"
      [ "$2" != ActiveState ] || STATE_GREEN=$3
      ;;
    "$NAME"-probation@blue.service:ActiveState) WATCH_BLUE=$3 ;;
    "$NAME"-probation@green.service:ActiveState) WATCH_GREEN=$3 ;;
    "$NAME"-probation@*) ;;
    *:ActiveState) fact "process.$1" "$3" ;;
  esac
}

# RELEASE, STATE and WATCHER of a slot.
look_up() { # SLOT
  linked "$1"
  case $1 in
    blue) STATE=$STATE_BLUE WATCHER=$WATCH_BLUE ;;
    green) STATE=$STATE_GREEN WATCHER=$WATCH_GREEN ;;
  esac
}
