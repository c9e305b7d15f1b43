# The links that say what serves, read at one moment and in one go: CURRENT and LIVE, which are slots; the release of each
# slot, and when it was placed there.
read_links() {
  CURRENT='' LIVE='' BLUE_RELEASE='' GREEN_RELEASE='' BLUE_PLACED=0 GREEN_PLACED=0
  links=$(find "$ROOT/current" "/run/$NAME/live" "/run/$NAME/ctl/live" \
    "$ROOT/slots/blue/release" "$ROOT/slots/green/release" -maxdepth 0 -type l -printf '%p\t%T@\t%l\n' 2>/dev/null) || :
  while IFS='	' read -r link placed target; do
    case $link in
      "$ROOT/current")
        name_slot "$target"
        CURRENT=$NAMED
        ;;
      "/run/$NAME/live")
        name_slot "$target"
        LIVE=$NAMED
        ;;
      # Of a host that an older version has set up.
      "/run/$NAME/ctl/live")
        name_slot "$target"
        [ "$target" != "$ROOT/current" ] || NAMED=$CURRENT
        LIVE=${LIVE:-$NAMED}
        ;;
      */blue/release) BLUE_RELEASE=${target##*/} BLUE_PLACED=${placed%.*} ;;
      */green/release) GREEN_RELEASE=${target##*/} GREEN_PLACED=${placed%.*} ;;
    esac
  done <<EOF
$links
EOF
}

# RELEASE of a slot, as it was read, and PLACED, in seconds since 1970.
linked() { # SLOT
  case $1 in
    blue) RELEASE=$BLUE_RELEASE PLACED=$BLUE_PLACED ;;
    green) RELEASE=$GREEN_RELEASE PLACED=$GREEN_PLACED ;;
    *) RELEASE='' PLACED=0 ;;
  esac
}
