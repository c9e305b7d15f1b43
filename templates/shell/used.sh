# Which releases are there, and from which of them something runs.

# The newest first, and nothing that is no release, whatever somebody has put between them.
releases_by_age() {
  find "$ROOT/releases" -mindepth 1 -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{12}' \
    -printf '%T@ %f\n' | sort -rn | cut -d ' ' -f 2
}

# A launcher locks its release, and what it starts inherits that. Those of older versions did not: what names a release in
# its command line runs from it, too. The brackets keep that from finding itself.
in_use() { # RELEASE
  ! flock -n "$ROOT/releases/$1" true 2>/dev/null || grep -aqs "[/]releases/$1/" /proc/[0-9]*/cmdline
}
