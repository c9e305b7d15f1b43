#!/bin/sh
# Fujin on all hosts at once, since a command of its own is for one of them. Before a deploy comes what it leaves to the
# internet: what `fujin server bootstrap` would fetch, and the wheels. What was sent is remembered in PROJECT/.sent.
#   fujin.sh deploy|rollback|restart|status PROJECT HOST...
set -eu
action=$1 project=$2
shift 2
name=$(basename "$project")
script=$(cat "$(dirname "$0")/prepare.sh")
cd "$project"
mkdir -p .sent
lock=$(sha256sum <requirements.txt | cut -c 1-12)

# Fujin can miss the end of a command that was over before it looked, and then waits until there is input, as when somebody
# presses a key: so each has a pipe, and in it a line as often as it looks.
awake() { # HOST
  rm -f ".input.$1"
  mkfifo ".input.$1"
  exec 3<>".input.$1"
  while sleep 0.25; do echo; done >&3 &
  feeder=$!
}

provide() { # HOST
  sent=.sent/$1
  if [ ! -f "$sent" ]; then
    set -- "$1" wheels setup uv
  elif grep -qx "$lock" "$sent"; then
    return
  else
    set -- "$1" wheels
  fi
  host=$1
  shift
  tar -cf - "$@" | ssh -F ssh_config "$host" "sh -c '$script' prepare '$name'"
  printf '%s\n' "$lock" >>"$sent"
}

one() { # HOST
  [ "$action" != deploy ] || provide "$1"
  awake "$1"
  cd code
  status=0
  case $action in
    deploy) fujin deploy --no-input -H "$1" ;;
    rollback) fujin rollback --previous --strict -H "$1" ;;
    restart | status) fujin app -H "$1" "$action" ;;
  esac <&3 || status=$?
  kill "$feeder"
  return "$status"
}

processes=
for host; do
  one "$host" &
  processes="$processes $!"
done
status=0
for process in $processes; do wait "$process" || status=1; done
exit $status
