# Puts a release on the host, ready to run. Only makes new paths: nothing that is live is touched, and no lock is needed.
part=$ROOT/releases/.part-$RUN
venv_part=$ROOT/venvs/.part-$RUN
venv_former=$ROOT/venvs/.part-old-$RUN
compiling=
trying=

forget_parts() {
  status=$?
  trap '' HUP INT PIPE TERM
  set +e
  # It writes there.
  [ -z "$compiling" ] || wait "$compiling"
  for left in "$part" "$venv_part" "$venv_former"; do [ ! -e "$left" ] || rm -rf "$left"; done
  exit "$status"
}
trap forget_parts EXIT
trap 'exit 129' HUP INT PIPE TERM

# Everyone who stages shares this lock; who gets it alone knows that every .part-* is of a run that has died.
only_one() {
  if flock -n -x 8; then return; fi
  IFS= read -r former <"$LOCKS/stage" || former=
  for signal in TERM KILL; do
    if [ -z "$former" ] || [ "$former" = "$GROUP" ]; then return 1; fi
    end_former "$signal" "$LOCKS/stage" 8 "$former"
    if flock -w 5 -x 8; then return; fi
  done
  return 1
}

forget_dead() {
  for left in "$ROOT"/releases/.part-* "$ROOT"/venvs/.part-* "$ROOT"/wheels/.part-*; do
    if [ -e "$left" ] || [ -L "$left" ]; then rm -rf "$left"; fi
  done
}

lockable stage
exec 8>>"$LOCKS/stage"
group
if only_one; then forget_dead; fi
flock -s 8
printf '%s\n' "$GROUP" >"$LOCKS/stage"

# Bytecode for the code, which a sandboxed service could never write. By the host's own Python without `site`: nothing of the
# venv or of the code is run. As an import writes it, since loading compileall takes longer than a few files do. What is no
# Python of this version goes without.
compile_code() {
  "$PYTHON" -I -S -c '
import os, sys
from importlib.machinery import SourceFileLoader
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".py"):
            try:
                SourceFileLoader("", os.path.join(folder, name)).get_code("")
            except Exception:
                pass' "$part/code" </dev/null >/dev/null 2>&1
}

# The digests in DIRECTORY's manifest hold, and no other file is there: bytecode aside, whole or as Python writes it.
intact() { # DIRECTORY
  (cd "$1/code" && sha256sum --quiet --strict -c ../MANIFEST) </dev/null || return 1
  # A dot for each.
  found=$(find "$1/code" ! -type d ! -name '*.pyc' ! -path '*/__pycache__/*.pyc.[0-9]*' -printf .)
  [ "${#found}" -eq "$(wc -l <"$1/MANIFEST")" ]
}

# Exit 3: what lies on the host is not what its manifest says, so the controller has to send everything.
edited() {
  mark edited "$1"
  exit 3
}

reuse() {
  step check "release $ID is there already"
  point stage.reuse
  intact "$ROOT/releases/$ID" || edited "$ID"
  launchers_intact "$ROOT/releases/$ID" || edited "$ID"
  venv_whole "$ROOT/releases/$ID/venv" || edited "$ID"
}

# Hex SHA-256, and more in the line. openssl has what processors bring for it: a fifth of the time.
digest() {
  if command -v openssl >/dev/null; then openssl dgst -sha256 -r; else sha256sum; fi
}

# A line for each wheel that comes, and then the wheels: one that has arrived whole is not sent again, however the rest
# goes. prune leaves what `.coming` names.
receive_wheels() {
  while IFS= read -r line && [ -n "$line" ]; do printf '%s\n' "$line"; done >"$part/coming"
  if [ ! -s "$part/coming" ]; then return; fi
  cut -d ' ' -f 3 "$part/coming" >"$part/names"
  mv -T "$part/names" "$ROOT/wheels/.coming"
  point stage.coming
  while IFS=' ' read -r size sum name <&7; do
    # It is hashed as it comes. A disk that does not take it all spoils the digest.
    told=$(dd bs=64k iflag=fullblock,count_bytes count="$size" status=none | { tee "$part/wheels/$name" || echo not written; } | digest)
    [ "${told%% *}" = "$sum" ] || refuse "the wheel $name did not arrive as it was sent"
    printf '%s  %s\n' "$sum" "$name" >>"$part/arrived"
    mv -T "$part/wheels/$name" "$ROOT/wheels/$name"
    point stage.wheel
  done 7<"$part/coming"
}

receive() {
  step receive
  # Of this very run, where what came first did not do.
  [ ! -e "$part" ] || rm -rf "$part"
  mkdir -p "$part/code" "$part/wheels" "$ROOT/wheels"
  point stage.receive
  receive_wheels
  tar -x -m --no-same-owner --no-same-permissions -f - -C "$part"
  point stage.received
}

# Of what most of is here already only the difference came.
link_unchanged() {
  [ -f "$part/CHANGED" ] || return 0
  base=$ROOT/releases/$BASE
  # A line is a digest of 64 digits, two blanks and a path.
  same=$(awk -v SAME="$part/SAME" '
    BEGIN { printf "" >SAME }
    FILENAME == ARGV[1] { dropped[$0]; next }
    !(substr($0, 67) in dropped) { print >SAME; count++ }
    END { print count + 0 }' "$part/DROPPED" "$base/MANIFEST") || edited "$BASE"
  sort -k 1.67 "$part/SAME" "$part/CHANGED" >"$part/MANIFEST"
  (cd "$part" && sha256sum --quiet --strict -c DIGEST) </dev/null || edited "$BASE"
  step link "$same unchanged files of $BASE"
  # What cannot be linked is found out by its digest.
  cut -c 67- "$part/SAME" | (cd "$base/code" && xargs -r -d '\n' cp -l --parents -t "$part/code" --) || :
}

# A file that was linked may be executable in one release and not in the other: there it is a copy.
set_modes() {
  if [ ! -s "$part/EXECUTABLE" ] && [ -z "$(find "$part/code" -type f -perm -100 -print -quit)" ]; then return; fi
  (cd "$part/code" && find . -type f -perm -100 -printf '%P\n' | sort | comm -3 - "$part/EXECUTABLE" | tr -d '\t' |
    while IFS= read -r path; do
      mode=0755
      [ ! -x "$path" ] || mode=0644
      cp -- "$path" "$path.part-$RUN"
      mv -T -- "$path.part-$RUN" "$path"
      chmod "$mode" -- "$path"
    done)
}

verify() {
  step verify
  point stage.verify
  intact "$part" || edited "${BASE:-$ID}"
}

# Those that were there before: one that is damaged is sent again, and no other.
check_wheels() {
  point stage.wheels
  list=$part/WHEELS
  if [ -s "$part/arrived" ]; then
    list=$part/there
    grep -vxFf "$part/arrived" "$part/WHEELS" >"$list" || :
  fi
  [ -s "$list" ] || return 0
  (cd "$ROOT/wheels" && sha256sum --strict -c "$list" 2>/dev/null) >"$part/checked" </dev/null || {
    sed -n 's/: FAILED.*//p' "$part/checked" | while IFS= read -r name; do mark lacks "$name"; done
    edited "$ID"
  }
}

# Both beside what verifies the code, which looks at no bytecode.
compile_and_try_venv() {
  compile_code 8>&- &
  compiling=$!
  [ -f "$ROOT/venvs/$VENV/FILES" ] || return 0
  venv_whole "$ROOT/venvs/$VENV" 8>&- &
  trying=$!
}

build_venv() {
  if [ -n "$trying" ] && wait "$trying"; then
    step venv "is there already"
    return
  fi
  [ -f "$part/tool/build_venv.py" ] || edited "$ID"
  step venv "building with $PYTHON"
  rm -rf "$venv_part"
  point stage.venv
  # Never by the Python in the venv, which would run what wheels put there.
  "$PYTHON" -I -S -m venv --without-pip --symlinks "$venv_part" </dev/null
  "$PYTHON" -I -S "$part/tool/build_venv.py" \
    "$part/tool/installer.zip" "$venv_part" "$ROOT/venvs/$VENV" "$ROOT/wheels" "$part/WHEELS" </dev/null
  [ -x "$venv_part/bin/gunicorn" ] || refuse "no wheel of the lock brings bin/gunicorn"
  venv_files "$venv_part" >"$venv_part/FILES"
  sync -f "$venv_part"
  point stage.built
  # A damaged one makes room, for as short a time as can be: a release may run from it.
  [ ! -e "$ROOT/venvs/$VENV" ] || mv -T "$ROOT/venvs/$VENV" "$venv_former"
  mv -T "$venv_part" "$ROOT/venvs/$VENV"
  point stage.venvs
  [ ! -e "$venv_former" ] || rm -rf "$venv_former"
}

finish() {
  # Without bytecode it starts more slowly, and runs all the same.
  wait "$compiling" || :
  ln -s "../../venvs/$VENV" "$part/venv"
  rm -rf "$part/tool" "$part/wheels" "$part/CHANGED" "$part/DROPPED" "$part/DIGEST" "$part/SAME" "$part/EXECUTABLE" \
    "$part/coming" "$part/arrived" "$part/there" "$part/checked"
  chmod 0755 "$part"/run/*
  sync -f "$part"
  point stage.finish
  make_room
  mv -T "$part" "$ROOT/releases/$ID"
  point stage.renamed
  sync "$ROOT/releases"
}

# A release of this id that is there all the same was damaged.
make_room() {
  [ -d "$ROOT/releases/$ID" ] || return 0
  slot=$(slot_of "$ROOT/current")
  [ "$(release_at "$ROOT/slots/${slot:-none}")" != "$ID" ] ||
    refuse "release $ID is damaged on this host, and it is the one that serves: roll back first"
  mv -T "$ROOT/releases/$ID" "$ROOT/releases/.part-old-$RUN"
  point stage.replace
  rm -rf "$ROOT/releases/.part-old-$RUN"
}

if [ "$PRESENT" = 1 ]; then
  reuse
else
  receive
  link_unchanged
  set_modes
  compile_and_try_venv
  verify
  check_wheels
  build_venv
  # Another run was quicker, or nothing but the venv was broken.
  if ! intact "$ROOT/releases/$ID" 2>/dev/null; then finish; fi
  # The release lists its wheels from here on.
  [ ! -f "$ROOT/wheels/.coming" ] || rm -f "$ROOT/wheels/.coming"
fi
step staged "$ID"
mark end ok
