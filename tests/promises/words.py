"""The promises, each spelled once; a fault is spelled where it is tried."""

from __future__ import annotations

WHOLE = "A host serves the old release or the new one, whole and healthy"
AGAIN = "The same command again finishes the job, and nothing needs unlocking"
TWO_RUNS = "Of two runs on a host one works, and the other says at once who is at work"
OTHERS = "One bad host never hides or stops the good ones"
NEIGHBOURS = "Services on one host leave each other alone"
NO_LOSS = "No request is lost, and none is slowed"
GATE = "A release that fails its check never serves a request, and its cause is told"
HELD_BACK = "A release that fails after the switch is taken back by the host itself"
KNOWN = "A host is never trusted blindly"
ACCESS = "Whatever a host's access is like: it works, or one clear sentence says why not"
CALM = "No file and no host makes fab crash, hang or fill the memory"
PLAIN = "A release holds the plain files of service/, byte for byte, and nothing else"
ROOTS_OWN = "Root follows no link that another account has planted"
UNHINDERED = "Neither the service nor another local user can block a run"
NO_INJECTION = "No value from a file or a host becomes syntax of a shell, systemd, nginx, sudo or a terminal"
