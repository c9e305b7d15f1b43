# Whether a release can run from a venv, by its files alone. Nothing of it is started here, and no Python that looks there:
# a wheel may bring code that runs as soon as one does. Whether it imports is for the slot to show, in its sandbox.

# Each file but bytecode, with its size and the second of its last change.
venv_files() { # VENV
  (cd "$1" && find . ! -type d ! -name '*.pyc' ! -path './FILES' -printf '%s %T@ %P\n') |
    sed 's/^\([0-9]* [0-9]*\)\.[0-9]*/\1/' | sort
}

venv_whole() { # VENV
  python=$(readlink -f "$1/bin/python") && [ -x "$python" ] && [ -x "$1/bin/gunicorn" ] || return 1
  # Another Python may have taken its name, and would look elsewhere.
  case ${python##*/} in python3.*) [ -d "$1/lib/${python##*/}/site-packages" ] || return 1 ;; esac
  if [ -f "$1/FILES" ]; then
    [ -z "$(venv_files "$1" | comm -3 - "$1/FILES" | head -c 1)" ]
  else
    # Built by an older version, which wrote no list.
    for package in "$1"/lib/*/site-packages/gunicorn/__init__.py; do [ -f "$package" ] || return 1; done
  fi
}
