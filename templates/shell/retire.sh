# What the host does by itself when a release is committed: the end of the old slot, and room on the disk.

# Nobody new comes to the old slot: it may take as long as its last requests do.
retire() {
  [ -z "$OLD" ] || {
    step drain "slot $OLD"
    drain_slot "$OLD"
    # It is stopped all the same: as failed it would look like something to recover, and its restarts like those of
    # whatever is started there next.
    ended=$(systemctl show "$NAME@$OLD.service" --no-pager -p ActiveState -p NRestarts) || ended=
    case $ended in *=failed*)
      mark warning "slot $OLD did not end in good order: it had failed, or it had to be killed" ;;
    esac
    case $ended in *=failed* | *NRestarts=[1-9]*) forget_starts "$OLD" || : ;; esac
  }
  point probation.stopped
  rm -f "/run/$NAME/try/$NEW"
  PHASE=finished
  point probation.drained
}

# Never what a slot, a process or a job uses, nor what a rollback would go back to, nor the newest KEEP.
prune() {
  sweep_pruned
  needed="$(release_at "$ROOT/slots/blue") $(release_at "$ROOT/slots/green") $SPARE"
  kept=0
  for id in $(releases_by_age); do
    kept=$((kept + 1))
    [ "$kept" -gt "$KEEP" ] || continue
    case " $needed " in *" $id "*) continue ;; esac
    ! in_use "$id" || continue
    step prune "$id"
    point probation.prune
    mv -T "$ROOT/releases/$id" "$ROOT/releases/.part-old-$id"
    point probation.pruned
    sweep "$ROOT/releases/.part-old-$id"
  done
  prune_unused
}

# The release serves, whatever somebody has put here that is not ours to remove.
sweep() { # PATH
  rm -rf "$1" || mark warning "$1 is not used any more, and cannot be removed: whose is it?"
}

# Of a run that ended in the middle of it: nobody else makes these.
sweep_pruned() {
  for old in "$ROOT"/releases/.part-old-????????????; do sweep "$old"; done
}

# A venv goes with the last release that uses it, a wheel with the last that lists it; what came of a delivery that was cut
# stays for the next one.
prune_unused() {
  exec 8>>"$LOCKS/stage"
  # Someone is staging, and may be about to use what no release uses yet.
  flock -n -x 8 || return 0
  used="$(readlink "$ROOT"/releases/*/venv | sed 's|.*/||')
$(cut -d ' ' -f 3 "$ROOT"/releases/*/WHEELS 2>/dev/null || :)
$(cat "$ROOT/wheels/.coming" 2>/dev/null || :)
"
  for path in "$ROOT"/venvs/* "$ROOT"/wheels/*; do
    [ -e "$path" ] || continue
    case "
$used" in *"
${path##*/}
"*) continue ;; esac
    point probation.sweep
    sweep "$path"
  done
}
