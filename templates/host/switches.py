"""The releases that a history goes back through: one rule, for the controller and for a person on the host. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

ACTIONS = ("deploy", "rollback", "restart", "undo")


def stack(done: Iterable[tuple[str, str]]) -> list[str]:
    """The releases that a rollback goes back through, the one that serves last. done: actions with their releases.

    A deploy that was committed is put on top; a rollback or undo takes off whatever lies above its target. So a release
    that was rolled back from is not gone back to, and deploying and rolling back in turn never goes in a circle.
    """
    releases: list[str] = []
    lowest: dict[str, int] = {}  # where each release lies first, so that a long history takes no longer a line
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
    """What a rollback goes back to: the release before the current one that is still on the host. passed: the stack."""
    if current in passed:
        passed = passed[: len(passed) - 1 - passed[::-1].index(current)]
    return next((release for release in reversed(passed) if release in there and release != current), None)
