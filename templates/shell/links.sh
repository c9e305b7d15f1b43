# The links that say what serves, read at one moment and in one go: CURRENT and LIVE, which are slots; LIVE_TARGET and
# DOOR_TARGET, where nginx is led; the release and the socket of each slot.
read_links() {
  CURRENT='' LIVE='' LIVE_TARGET='' DOOR_TARGET='' BLUE_RELEASE='' GREEN_RELEASE='' BLUE_SOCKET='' GREEN_SOCKET=''
  links=$(find "$ROOT/current" "/run/$NAME/ctl/live" "/run/$NAME/ctl/door" \
    "$ROOT/slots/blue/release" "$ROOT/slots/green/release" "$ROOT/slots/blue/http.sock" "$ROOT/slots/green/http.sock" \
    -maxdepth 0 -type l -printf '%p\t%l\n' 2>/dev/null) || :
  while IFS='	' read -r link target; do
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
      */blue/release) BLUE_RELEASE=${target##*/} ;;
      */green/release) GREEN_RELEASE=${target##*/} ;;
      */blue/http.sock) BLUE_SOCKET=$target ;;
      */green/http.sock) GREEN_SOCKET=$target ;;
    esac
  done <<EOF
$links
EOF
}

# RELEASE and SOCKET of a slot, as they were read.
linked() { # SLOT
  case $1 in
    blue) RELEASE=$BLUE_RELEASE SOCKET=$BLUE_SOCKET ;;
    green) RELEASE=$GREEN_RELEASE SOCKET=$GREEN_SOCKET ;;
    *) RELEASE='' SOCKET='' ;;
  esac
}
