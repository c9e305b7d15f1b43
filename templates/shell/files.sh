# Root's files of a service: each takes its place by a rename, what was edited is kept, and what was written is recorded.

# What is not as we wrote it, somebody edited: it is kept, ten copies of each file at most, and that is said.
keep_edited() { # PATH
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  recorded=$(awk -v WANTED="$1" '$1 ~ /^(file|tls)$/ && $3 == WANTED { print $2 }' "/etc/$NAME/setup" 2>/dev/null) || :
  if [ ! -L "$1" ] && [ "$recorded" = "$(sha256sum <"$1" | cut -d ' ' -f 1)" ]; then return 0; fi
  copy=/var/backups/integrators-loop/$NAME$1.$(date -u +%Y%m%dT%H%M%SZ)
  (umask 077 && mkdir -p "${copy%/*}")
  cp -P --remove-destination "$1" "$copy"
  [ -L "$copy" ] || chmod 0600 "$copy"
  mark warning "$1 is not as it was written here; what it was is kept as $copy"
  find "${copy%/*}" -maxdepth 1 -name "${1##*/}.[0-9]*Z" -printf '%f\n' | sort -r | tail -n +11 |
    while IFS= read -r old; do rm -f "${copy%/*}/$old"; done
}

# The new file takes its place by a rename; the former one is kept until all is well.
replace() { # NEW PATH MODE
  keep_edited "$2"
  [ -d "${2%/*}" ] || mkdir -p "${2%/*}"
  if [ -e "$2" ] || [ -L "$2" ]; then
    mkdir -p "$work/former${2%/*}"
    cp -p -P "$2" "$work/former$2"
  fi
  printf '%s\n' "$2" >>"$work/changed"
  install -m "$3" "$1" "$2.new-$RUN"
  point setup.file
  mv -T "$2.new-$RUN" "$2"
  point setup.written
}

install_files() {
  rules=$work/files/etc/sudoers.d/$NAME
  [ ! -f "$rules" ] || visudo -c -q -f "$rules" </dev/null || refuse 'visudo refuses the sudo rules'
  while IFS=' ' read -r mode path; do
    for left in "$path".new-*; do if [ -e "$left" ] || [ -L "$left" ]; then rm -f "$left"; fi; done
    if [ -L "$path" ] || ! cmp -s "$work/files$path" "$path"; then
      step write "$path"
      replace "$work/files$path" "$path" "$mode"
    fi
  done <"$work/files/MODES"
  remove_former
  rm -f "/etc/$NAME/tls"/*.new-*
}

# Units of processes that are gone, and the rules of an account that does not deploy any more.
remove_former() {
  [ -f "/etc/$NAME/setup" ] || return 0
  sed -n 's/^file [0-9a-f]* //p' "/etc/$NAME/setup" | while IFS= read -r path; do
    grep -qF " $path" "$work/files/MODES" && continue
    case $path in /etc/systemd/system/"$NAME"[-.@]* | /etc/nginx/conf.d/"$NAME".conf | /etc/sudoers.d/"$NAME") ;; *) continue ;; esac
    [ -f "$path" ] || continue
    step remove "$path"
    case $path in *.service | *.timer | *.socket) systemctl disable --now "$(basename "$path")" </dev/null || : ;; esac
    keep_edited "$path"
    mkdir -p "$work/former${path%/*}"
    cp -p "$path" "$work/former$path"
    printf '%s\n' "$path" >>"$work/changed"
    rm -f "$path"
  done
}

# By this run, or by one that was killed before it could act on that and record it.
changed() { # PART OF A PATH
  grep -qF "$1" "$work/changed" 2>/dev/null ||
    [ "$(written | grep -F "$1")" != "$(grep -F "$1" "/etc/$NAME/setup" 2>/dev/null)" ]
}

# What deploy compares with: the account, and the digest of each file as it was written.
written() {
  printf 'account %s\n' "$ACCOUNT"
  while IFS=' ' read -r _ path; do
    printf 'file %s %s\n' "$(sha256sum <"$path" | cut -d ' ' -f 1)" "$path"
  done <"$work/files/MODES"
  for path in "/etc/$NAME/tls/certificate.pem" "/etc/$NAME/tls/key.pem"; do
    [ ! -f "$path" ] || printf 'tls %s %s\n' "$(sha256sum <"$path" | cut -d ' ' -f 1)" "$path"
  done
}

record() {
  written >"/etc/$NAME/setup.new-$RUN"
  # With the record nobody needs to come again, who would take this away.
  rm -rf "$work"
  mv -T "/etc/$NAME/setup.new-$RUN" "/etc/$NAME/setup"
}
