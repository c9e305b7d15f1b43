"""The releases that a rollback goes back through: one rule for the controller and for an operator on the host. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

ACTIONS = ("deploy", "rollback", "restart", "undo")


def stack(done: Iterable[tuple[str, str]]) -> list[str]:
    """Return the releases that a rollback goes back through, the current one last. done: actions with their releases.

    A committed deploy goes on top; a rollback or undo removes all that lies above its target. So a rollback never
    returns to a release that was rolled back from, and deploys and rollbacks in turn never go in a circle.
    """
    releases: list[str] = []
    # The lowest place of each release, so that each line takes the same time, however long the history.
    lowest: dict[str, int] = {}
    for action, release in done:
        if action in ("rollback", "undo") and release in lowest:
            while len(releases) > lowest[release] + 1:
                taken = releases.pop()
                if lowest[taken] == len(releases):
                    del lowest[taken]
        elif not releases or releases[-1] != release:
            lowest.setdefault(release, len(releases))
            releases.append(release)
    return releases


def previous(passed: list[str], current: str, there: Collection[str]) -> str | None:
    """Return the last release before the current one that is still on the host. passed: the stack."""
    if current in passed:
        passed = passed[: len(passed) - 1 - passed[::-1].index(current)]
    return next((release for release in reversed(passed) if release in there and release != current), None)
