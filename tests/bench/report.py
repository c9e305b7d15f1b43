"""docs/BENCHMARK.md and its plot, from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.series import EVERYTHING, SERIES, SERVICE, START, UPLOAD, Results
from tests.bench.service import CONNECTIONS, OURS, SECONDS, SMALL, TUTORIALS

LIMIT = "limit-uv"
NEARER, FARTHEST = "50ms", "150ms"
HEAD = """# The benchmark

`make bench` measures it (as root, on Linux, some hours) and writes this page. Every contender does the same job on the
same hosts: a Flask application of eleven files behind gunicorn, systemd and nginx with TLS, on hosts without internet.
They take turns, action by action; each figure is the median of the rounds, and after each run the hosts were asked
whether it had been done. The limit is [tests/bench/limit](../tests/bench/limit): one ssh, one tar and one script for a
host, by hand, with no checks. `ours` has `settle: 0` and `probation: 0`, as the others check nothing; `ours-default` is
the template as it is. Fujin's restart waits for systemd alone. Capistrano takes part where its `cap` is installed; it
and Ansible run pip at each deploy, and Ansible gathers facts, as is usual. Seconds, and in brackets the ratio to the
limit with uv.

"""


ANSWERS = f"""## The service

The sample service, and the same code as the common tutorials set it up: sync workers on a TCP port, behind the same
nginx and the same site; and with a site of its own, whose access log is a file and not the journal. {CONNECTIONS}
clients ask for the front page over TLS, each as soon as it has its answer, for {SECONDS} s; `workers x threads`. The
clients, nginx and the journal share the processors with the service.

"""


def page(results: Results, versions: Mapping[str, str]) -> str:
    """Return the whole page. versions: of the programs measured."""
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{HEAD}Versions: {told}.\n\n![code change](benchmark.svg)\n\n{overview(results, EVERYTHING)}"


def _throughput(results: Results) -> str:
    """Return the table of the service's throughput."""
    rows = [
        f"| {title} | {one.rate:.0f} | {1000 * one.tail:.1f} |"
        for title, one in results.answers.items()
        if ": " not in title
    ]
    table = ["| | answers/s | p99, ms |", "| --- | --- | --- |", *rows]
    return ANSWERS + "\n".join([*table, "", *_small(results), _when(results, SERVICE)])


def _small(results: Results) -> list[str]:
    """Return the table of small answers: ours, and the tutorial with an nginx file of its own."""
    rows = []
    for what in SMALL:
        ours, other = (results.answers.get(f"{title}: {what}") for title in (OURS, TUTORIALS[-1].title))
        if ours and other:
            rows.append(f"| {what} | {ours.rate:.0f} ({ours.rate / other.rate:.2f}) | {other.rate:.0f} |")
    head = [
        "Answers a second, and in brackets the ratio:",
        "",
        "| | ours | the tutorial's nginx file |",
        "| --- | --- | --- |",
    ]
    return [*head, *rows, ""] if rows else []


def _starts(results: Results) -> str:
    """Return the table of the time that `fab` takes to start."""
    rows = [f"| {name} | {ours:.3f} ({ours / one:.2f}) | {one:.3f} |" for name, (ours, one) in results.starts.items()]
    head = ["## How `fab` begins", "", "| | ours | a fabfile of one task |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, "", _when(results, START)])


def _uploads(results: Results) -> str:
    """Return the table of the time that large wheels take."""
    rows = [f"| {link} | {ours:.2f} ({ours / scp:.2f}) | {scp:.2f} |" for link, (ours, scp) in results.uploads.items()]
    head = ["## 200 MB of wheels to one host", "", "| | ours | scp |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows, "", _when(results, UPLOAD)])


def _when(results: Results, name: str) -> str:
    return f"({results.when.get(name, 'now')}.)\n"


def _contenders(results: Results, series: str) -> list[str]:
    return list(dict.fromkeys(name for found, _, name in results.costs if found == series))


def _series(results: Results, name: str) -> str:
    series, who = SERIES[name], _contenders(results, name)
    rows = [f"## {series.title}", "", "| | " + " | ".join(who) + " |", "| --- |" + " --- |" * len(who)]
    for action in series.actions:
        rows.append(f"| {action} | " + " | ".join(_seconds(results, name, action, one) for one in who) + " |")
    rows += [
        f"| {action}: channels, kB sent, CPU s, MB | "
        + " | ".join(_costs(results, name, action, one) for one in who)
        + " |"
        for action in series.actions
    ]
    if name == FARTHEST:
        rows += [
            f"| {action}: round trips | " + " | ".join(_round_trips(results, name, action, one) for one in who) + " |"
            for action in series.actions
        ]
    return "\n".join([*rows, "", _when(results, name)])


def _seconds(results: Results, series: str, action: str, contender: str) -> str:
    seconds, limit = results.seconds(series, action, contender), results.seconds(series, action, LIMIT)
    if seconds is None:
        return ""
    return f"{seconds:.2f}" + (f" ({seconds / limit:.2f})" if limit and contender != LIMIT else "")


def _costs(results: Results, series: str, action: str, contender: str) -> str:
    found = results.of(series, action, contender)
    if not found:
        return ""
    of = [
        median(values)
        for values in zip(*((c.channels, c.received / 1e3, c.cpu, c.memory / 1e6) for c in found), strict=True)
    ]
    return f"{of[0]:.0f}, {of[1]:.0f}, {of[2]:.2f}, {of[3]:.0f}"


def _round_trips(results: Results, series: str, action: str, contender: str) -> str:
    """Return what distance costs, in round trips: the slope between two series, which hides no work behind a wait."""
    far, near = results.seconds(series, action, contender), results.seconds(NEARER, action, contender)
    distance = SERIES[series].round_trip - SERIES[NEARER].round_trip
    return "" if far is None or near is None else f"{(far - near) / distance:.1f}"


def plot(results: Results, action: str = "code") -> str:
    """Return a bar plot of the seconds of one action near by, as SVG."""
    who = [(name, results.seconds("near", action, name)) for name in _contenders(results, "near")]
    bars = [(name, seconds) for name, seconds in who if seconds is not None]
    longest = max(seconds for _, seconds in bars)
    lines = [_bar(number, name, seconds, longest) for number, (name, seconds) in enumerate(sorted(bars, key=_by_time))]
    height = 24 * len(bars) + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" font-family="sans-serif"'
        ' font-size="13">\n'
        f'<text x="8" y="20">A code change on one host, seconds</text>\n{"".join(lines)}</svg>\n'
    )


def _by_time(bar: tuple[str, float]) -> float:
    return bar[1]


def _bar(number: int, name: str, seconds: float, longest: float) -> str:
    y, width = 34 + 24 * number, 500 * seconds / longest
    colour = "#2a7" if name.startswith("ours") else "#999"
    return (
        f'<text x="110" y="{y + 13}" text-anchor="end">{name}</text>'
        f'<rect x="118" y="{y}" width="{width:.1f}" height="17" fill="{colour}"/>'
        f'<text x="{124 + width:.1f}" y="{y + 13}">{seconds:.2f}</text>\n'
    )


def overview(results: Results, names: Sequence[str]) -> str:
    """Return the tables of some series."""
    special = {SERVICE: _throughput, START: _starts, UPLOAD: _uploads}
    return "\n".join(special[name](results) if name in special else _series(results, name) for name in names)
