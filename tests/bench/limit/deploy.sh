#!/bin/sh
# The practical limit: what a careful person writes by hand. For each host one ssh, one channel, one tar on its standard
# input and one script, which asks nothing twice and checks no more than that the new code answers.
#   deploy.sh deploy|restart|rollback PROJECT INSTALLER HOST...
# PROJECT: a folder with code/, requirements.txt, wheels/ and setup/, whose name is the service's. INSTALLER: uv or pip.
# What has been sent to a host is remembered in PROJECT/.sent, so that nothing has to be asked. Hosts are words for ssh.
set -eu
action=$1 project=$2 installer=$3
shift 3
name=$(basename "$project")
script=$(cat "$(dirname "$0")/remote.sh")
cd "$project"
mkdir -p .sent
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --exclude=__pycache__ -cf - "$@"; }
id=$(pack code requirements.txt | sha256sum | cut -c 1-12)
lock=$(sha256sum <requirements.txt | cut -c 1-12)

# What this host lacks, as far as we remember.
one() { # HOST
  sent=.sent/$1
  if [ "$action" != deploy ]; then
    set -- "$1"
  elif [ ! -f "$sent" ]; then
    set -- "$1" code requirements.txt wheels setup
    [ "$installer" != uv ] || set -- "$@" uv
  elif grep -qx "$id" "$sent"; then
    set -- "$1"
  elif grep -qx "$lock" "$sent"; then
    set -- "$1" code requirements.txt
  else
    set -- "$1" code requirements.txt wheels
  fi
  host=$1
  shift
  { [ $# = 0 ] || pack "$@"; } |
    ssh -F "$project/ssh_config" "$host" "sh -c '$script' deploy '$action' '$name' '$id' '$lock' '$installer'"
  [ "$action" != deploy ] || printf '%s\n' "$id" "$lock" >>"$sent"
}

processes=
for host; do
  one "$host" &
  processes="$processes $!"
done
status=0
for process in $processes; do wait "$process" || status=1; done
exit $status
