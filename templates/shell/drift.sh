# Everything that is ours, held against what was written. Each finding is a kind and a path; contents come as data.
drift_facts() {
  seen=$(mktemp)
  trap 'rm -f "$seen" "$seen.known"' EXIT
  for file in $FILES; do drift_file "$file"; done
  drift_file "/etc/$NAME/tls/certificate.pem"
  for unit in $UNITS; do
    for property in DropInPaths FragmentPath NeedDaemonReload; do
      mark drift "unit $unit $property $(systemctl show --no-pager -p "$property" --value "$unit")"
    done
    for file in $(systemctl show --no-pager -p DropInPaths --value "$unit"); do show_file "$file"; done
  done
  for file in /etc/systemd/system/"$NAME".* /etc/systemd/system/"$NAME"[-@]*; do
    if [ ! -f "$file" ] && [ ! -L "$file" ]; then continue; fi
    case " $FILES " in *" $file "*) continue ;; esac
    # Another service's, of which this one's name is the beginning.
    cat /etc/*/setup 2>/dev/null | cut -d ' ' -f 3 | grep -qxF "$file" && continue
    mark drift "extra $file"
    show_file "$file"
  done
  for slot in blue green; do
    [ ! -L "$ROOT/slots/$slot/release" ] || drift_link "$ROOT/slots/$slot/http.sock" "/run/$NAME/$slot.sock"
  done
  for release in "$ROOT"/releases/*/; do
    [ ! -d "$release" ] || drift_release "${release%/}"
  done
}

drift_file() { # PATH
  if [ -L "$1" ]; then
    mark drift "link $1 $(readlink "$1")"
  elif [ -r "$1" ]; then
    :
  elif [ -e "$1" ] || [ ! -x "${1%/*}" ]; then
    mark drift "unreadable $1"
  else
    mark drift "missing $1"
  fi
}

drift_link() { # PATH TARGET
  found=$(readlink "$1" 2>/dev/null) || found=
  [ "$found" = "$2" ] || mark drift "points $1 $found"
}

# What lies below ROOT is its owner's, who may have led its links anywhere: as root it is read with that owner's eyes.
show_file() { # PATH
  if [ ! -f "$1" ] || [ ! -r "$1" ]; then return 0; fi
  case $(id -u)$1 in
    0"$ROOT"/*) data=$(runuser -u "$(stat -c %U "$ROOT")" -- head -c 65536 "$1" 2>/dev/null | base64 -w 0) ;;
    *) data=$(head -c 65536 "$1" | base64 -w 0) ;;
  esac
  mark data "$1" "$data"
}

drift_release() { # DIRECTORY
  if [ ! -f "$1/MANIFEST" ]; then
    mark drift "missing $1/MANIFEST"
    return 0
  fi
  drift_digests "$1/code" ../MANIFEST
  if [ -f "$1/LAUNCHERS" ]; then drift_digests "$1" LAUNCHERS; fi
  venv=$(readlink "$1/venv" 2>/dev/null) || venv=
  case $venv in
    ../../venvs/?*) [ -x "$1/venv/bin/python" ] || mark drift "missing $1/$venv" ;;
    *) mark drift "points $1/venv $venv" ;;
  esac
  {
    (cd "$1/code" && find . ! -type d ! -name '*.pyc' -printf 'code/%P\0')
    (cd "$1" && find run ! -type d -printf '%p\0' 2>/dev/null)
  } | tr '\n\0' '?\n' | sort >"$seen"
  {
    cut -c 67- "$1/MANIFEST" | sed 's|^|code/|'
    if [ -f "$1/LAUNCHERS" ]; then cut -c 67- "$1/LAUNCHERS"; else grep '^run/' "$seen" || :; fi
  } | sort >"$seen.known"
  comm -23 "$seen" "$seen.known" | while IFS= read -r path; do
    mark drift "extra $1/$path"
    show_file "$1/$path"
  done
}

drift_digests() { # DIRECTORY LIST
  (cd "$1" && sha256sum --strict -c "$2" 2>/dev/null </dev/null) | sed -n 's/: FAILED.*$//p' | while IFS= read -r path; do
    if [ -e "$1/$path" ]; then mark drift "edited $1/$path"; else mark drift "missing $1/$path"; fi
    show_file "$1/$path"
  done
}
