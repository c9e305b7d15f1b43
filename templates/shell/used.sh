# Which releases are there, and from which of them something runs.

# The newest first, and nothing that is no release, whatever somebody has put between them.
releases_by_age() {
  find "$ROOT/releases" -mindepth 1 -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{12}' \
    -printf '%T@ %f\n' | sort -rn | cut -d ' ' -f 2
}

# A launcher locks its release, and what it starts inherits that. Those of older versions did not: what names a release in
# its command line runs from it, too.
in_use() { # RELEASE
  ! flock -n "$ROOT/releases/$1" true 2>/dev/null || [ -n "$(named_by "$1")" ]
}

# Processes of the service's user and of this account that name a release: any other user may write there what it likes.
# The owner is read of the directory: the files below it are root's where a process lets nobody look into it. The
# brackets keep grep from finding itself.
named_by() { # RELEASE
  grep -als "[/]releases/$1/" /proc/[0-9]*/cmdline | while IFS= read -r process; do
    process=${process%/cmdline}
    owner=$(stat -c %u "$process" 2>/dev/null) || continue
    if [ "$owner" = "$(id -u)" ] || [ "$owner" = "$(id -u "$NAME")" ]; then printf '%s\n' "$process"; fi
  done
}
