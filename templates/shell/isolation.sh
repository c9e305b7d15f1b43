# What keeps the service from networks that its `needs` do not name: as its unit says it, and as it came out.

# The unit of a former version opened loopback to all, and said nothing of a network of its own.
loopback_fact() {
  unit=/etc/systemd/system/$NAME@.service
  [ -r "$unit" ] || return 0
  filtered=
  while IFS= read -r line; do
    case $line in
      IPAddressDeny=any) filtered=1 ;;
      PrivateNetwork=*) return 0 ;;
    esac
  done <"$unit"
  [ -z "$filtered" ] || fact loopback open
}

# Of the slot that serves: whether it has addresses beside loopback, and whether systemd has counters for what it filters,
# which it has where the kernel let it put the filter there.
isolation_facts() {
  slot=${LIVE:-$CURRENT}
  [ -n "$slot" ] || return 0
  shown=$(systemctl show "$NAME@$slot.service" --no-pager -p MainPID -p IPAccounting -p IPIngressBytes) || return 0
  main='' counted='' counters=
  for property in $shown; do
    case $property in
      MainPID=*) main=${property#*=} ;;
      IPAccounting=yes) counted=1 ;;
      IPIngressBytes=*) counters=${property#*=} ;;
    esac
  done
  [ "${main:-0}" != 0 ] && [ -r "/proc/$main/net/route" ] || return 0
  if [ "$(wc -l <"/proc/$main/net/route")" -gt 1 ] || grep -qsv ' lo$' "/proc/$main/net/if_inet6"; then
    fact outside reached
  fi
  [ -n "$counted" ] || return 0
  case $counters in
    # Of bytes that were never counted older ones say 2^64 - 1.
    *[!0-9]* | '' | 18446744073709551615) fact address_filter none ;;
    *) fact address_filter there ;;
  esac
}
