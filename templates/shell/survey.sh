# What people want to know of a host, and no run: its system, its room, its rights, and what the slots use.
survey_facts() {
  fact uptime "${NOW%??}"
  # Read, and not sourced: what stands in it is text to us, whoever wrote it.
  fact os "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tail -n 1 | tr -d "\"'" | head -c 200)"
  fact systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
  fact selinux "$(cat /sys/fs/selinux/enforce 2>/dev/null || printf 0)"
  place=$ROOT
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  fact free_bytes "$(df -P -k "$place" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')"
  fact free_inodes "$(df -P -i "$place" | awk 'NR == 2 { print $4 }')"
  certificate=/etc/$NAME/tls/certificate.pem
  if [ -r "$certificate" ] && command -v openssl >/dev/null; then
    fact certificate_end "$(openssl x509 -noout -enddate -in "$certificate" </dev/null | cut -d = -f 2)"
  fi
  rights_facts
  for slot in blue green; do slot_processes "$slot"; done
  used_facts
}

# The releases of no slot from which something runs: the place of each among all, the newest first, and who it is, as far
# as this account may know.
used_facts() {
  place=0
  for id in $(releases_by_age 2>/dev/null); do
    place=$((place + 1))
    case " $BLUE_RELEASE $GREEN_RELEASE " in *" $id "*) continue ;; esac
    ! in_use "$id" || fact "used.$id" "$place $(users_of "$id")"
  done
}

users_of() { # RELEASE
  {
    named_by "$1"
    find /proc/[0-9]*/fd -lname "$ROOT/releases/$1" 2>/dev/null || :
  } | cut -d / -f 3 | sort -nu | tr '\n' ' '
}

# Asked for by doctor alone: where it is refused, sudo logs that.
rights_facts() {
  [ "$RIGHTS" = 1 ] || return 0
  if as_root true >/dev/null 2>&1; then fact root 1; fi
  # The rules of setup: asked about, and not used.
  if [ "$(id -u)" = 0 ] || sudo -n -l "$SYSTEMCTL" start "$NAME@blue.service" >/dev/null 2>&1 </dev/null; then
    fact rules 1
  fi
}

# The workers of a slot, and what its processes use where systemd does not count it: their fair share of what is shared
# if we may know it, else all that each of them has in memory.
slot_processes() { # SLOT
  unit=$NAME@$1.service
  main=$(systemctl show -p MainPID --value "$unit")
  [ "${main:-0}" != 0 ] || return 0
  workers=$(cat "/proc/$main/task/$main/children" 2>/dev/null) || workers=
  # shellcheck disable=SC2086 # a list of pids
  set -- "$1" "$main" $workers
  fact "slot.$1.workers" "$(($# - 2))"
  shift
  group=/sys/fs/cgroup$(systemctl show -p ControlGroup --value "$unit")/cgroup.procs
  all=$(cat "$group" 2>/dev/null) || all=
  # A host that is a container may see another group there than its own.
  printf '%s\n' "$all" | grep -qxF "$main" || all=$*
  sizes_of() { # FILE WORD
    for pid in $all; do sed -n "s/^$2:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$pid/$1" 2>/dev/null; done |
      awk -v WANTED="$(printf '%s\n' "$all" | wc -w)" '{ sum += $1 } END { if (NR == WANTED) printf "%.0f", sum * 1024 }'
  }
  slot=${unit#*@}
  slot=${slot%.service}
  size=$(sizes_of smaps_rollup Pss)
  if [ -n "$size" ]; then
    fact "slot.$slot.pss" "$size"
  else
    fact "slot.$slot.rss" "$(sizes_of status VmRSS)"
  fi
}
