# The links that say what serves, read at one moment and in one go: CURRENT and LIVE, which are slots; LIVE_TARGET and
# DOOR_TARGET, where nginx is led; the release and the socket of each slot, and when the release was placed there.
read_links() {
  CURRENT='' LIVE='' LIVE_TARGET='' DOOR_TARGET=''
  BLUE_RELEASE='' GREEN_RELEASE='' BLUE_SOCKET='' GREEN_SOCKET='' BLUE_PLACED=0 GREEN_PLACED=0
  links=$(find "$ROOT/current" "/run/$NAME/ctl/live" "/run/$NAME/ctl/door" \
    "$ROOT/slots/blue/release" "$ROOT/slots/green/release" "$ROOT/slots/blue/http.sock" "$ROOT/slots/green/http.sock" \
    -maxdepth 0 -type l -printf '%p\t%T@\t%l\n' 2>/dev/null) || :
  while IFS='	' read -r link placed target; do
    case $link in
      "$ROOT/current")
        name_slot "$target"
        CURRENT=$NAMED
        ;;
      "/run/$NAME/ctl/live")
        name_slot "$target"
        LIVE=$NAMED LIVE_TARGET=$target
        ;;
      "/run/$NAME/ctl/door") DOOR_TARGET=$target ;;
      */blue/release) BLUE_RELEASE=${target##*/} BLUE_PLACED=${placed%.*} ;;
      */green/release) GREEN_RELEASE=${target##*/} GREEN_PLACED=${placed%.*} ;;
      */blue/http.sock) BLUE_SOCKET=$target ;;
      */green/http.sock) GREEN_SOCKET=$target ;;
    esac
  done <<EOF
$links
EOF
}

# RELEASE and SOCKET of a slot, as they were read, and PLACED, in seconds since 1970.
linked() { # SLOT
  case $1 in
    blue) RELEASE=$BLUE_RELEASE SOCKET=$BLUE_SOCKET PLACED=$BLUE_PLACED ;;
    green) RELEASE=$GREEN_RELEASE SOCKET=$GREEN_SOCKET PLACED=$GREEN_PLACED ;;
    *) RELEASE='' SOCKET='' PLACED=0 ;;
  esac
}
