"""nginx and the proxy of `listen:` reach only this service's slots, through root's link."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.promises.words import OWN_SOCKETS
from tests.support.clone import Clone, make
from tests.support.echo_service import deployed, put
from tests.support.front_door import NAME, ask, release_of, trusting
from tests.support.hosts import Hosts, MakeHosts

ROOT = "/opt/apps/myapp"
LOCAL = "127.0.0.1:8080"
# Another service of this host, with a socket that nginx and the proxy of `listen:` may open.
ANOTHER = """
import http.server, os, socketserver
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"another service")
    def address_string(self):
        return "-"
os.makedirs("/run/another", exist_ok=True)
server = socketserver.UnixStreamServer("/run/another/http.sock", Answer)
os.chmod("/run/another/http.sock", 0o666)
server.serve_forever()
"""
# Every file that a deploy account can replace among its own.
PLANTED = f"""
mkdir -p /home/deploy/fake && cd /home/deploy/fake && chmod 711 . ..
touch is-blue is-green && ln -sfn /run/another/http.sock http.sock
for slot in blue green; do ln -sfn /run/another/http.sock {ROOT}/slots/$slot/http.sock; done
for link in live door blue green blue.sock http.sock; do ln -sfn /run/another /run/myapp/ctl/$link; done
for link in live door blue green http.sock; do ln -sfn /run/another {ROOT}/$link; done
ln -sfn /home/deploy/fake {ROOT}/current
for place in /run/myapp /run/myapp/blue /run/myapp/green /run/myapp/lock; do
  ln -sfn /run/another/http.sock $place/http.sock && exit 9
  ln -sfn /run/another $place/live && exit 9
done
for way in blue green none; do sudo -n systemctl start myapp-live@$way.service; done
sudo -n systemctl start myapp-live@another.service && exit 9
sudo -n systemctl start myapp-live@../../another.service && exit 9
sudo -n systemctl start myapp-boot@blue.service && exit 9
exit 0
"""
SAMPLER = """
import glob, os, time
secret = open("/etc/myapp/check/live", "rb").read().split()[1]
seen, rounds = set(), 0
while not os.path.exists("/tmp/enough"):
    rounds += 1
    time.sleep(0.005)
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            if secret in open(path, "rb").read():
                seen.add(path + " " + open(path.replace("environ", "cmdline"), "rb").read().decode(errors="replace"))
        except OSError:
            pass
open("/tmp/seen", "w").write("\\n".join(seen))
open("/tmp/rounds", "w").write(str(rounds))
"""
KEEPS = """

@app.before_request
def keep():
    with open(os.environ["STATE_DIRECTORY"] + "/headers", "a") as file:
        file.write(repr(dict(request.headers)) + chr(10))
"""
VERBS = (
    ("plan", "--steps"),
    ("drift",),
    ("drift", "--as", "root"),
    ("restart",),
    ("status",),
    ("doctor",),
    ("setup", "--as", "root"),
)


@pytest.fixture(scope="module")
def shire(module_hosts: MakeHosts) -> Hosts:
    return module_hosts()


@pytest.fixture(scope="module")
def clone(shire: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A service with both ways in, whose deploy account has the exact rules alone."""
    made = deployed(make(tmp_path_factory.mktemp("own")), shire, listen=LOCAL)
    shire[0].sh("find /etc/sudoers.d -type f ! -name myapp ! -name README -delete")
    return made


def sh(hosts: Hosts, command: str) -> str:
    ended = hosts[0].sh(command)
    assert ended.returncode == 0, f"{command}: {(ended.stdout + ended.stderr).decode()}"
    return ended.stdout.decode()


def inside(hosts: Hosts, path: str = "/healthz", *options: str) -> str:
    """Return the answer that a program on the host gets from `listen:`, or as curl's options say."""
    return hosts[0].sh(f"curl -sS --max-time 10 {' '.join(options)} http://{LOCAL}{path}").stdout.decode()


@pytest.mark.promise(OWN_SOCKETS, "links to another service's socket, wherever it may write")
def test_no_link_of_the_deploy_account_leads_to_another_service(clone: Clone, shire: Hosts) -> None:
    """Once: a link of the deploy account led nginx and `listen:` to the socket of another service."""
    address, released = shire[0].address, clone.release()
    sh(shire, f"cat >/root/another.py <<'END'\n{ANOTHER}END")
    sh(shire, "systemd-run -q --unit=another python3 /root/another.py; until [ -S /run/another/http.sock ]; do :; done")
    assert b"another service" in shire[0].sh("curl -s --unix-socket /run/another/http.sock http://x/").stdout
    # Until its end the guard of the deploy changes files there.
    sh(shire, "flock -w 50 /run/myapp/lock/guard true")
    sh(shire, f"cp -a {ROOT} /root/kept; cat >/tmp/planted.sh <<'END'\n{PLANTED}END")
    try:
        sh(shire, "runuser -u deploy -- sh /tmp/planted.sh 2>/dev/null")
        for way in ("none", "blue", "green"):
            sh(shire, f"runuser -u deploy -- sudo -n systemctl start myapp-live@{way}.service")
            assert b"another" not in ask(address, "/").body
            assert "another" not in inside(shire, "/")
        shire[0].reboot()
        sh(shire, "systemd-run -q --unit=another python3 /root/another.py")
        time.sleep(1)
        assert b"another" not in ask(address, "/").body
        assert "another" not in inside(shire, "/")
    finally:
        sh(
            shire,
            f"systemctl stop another; rm -rf {ROOT} /home/deploy/fake && mv /root/kept {ROOT}; rm -rf /run/another",
        )
        shire[0].reboot()
    assert release_of(address) == json.loads(inside(shire))["release"] == released


def upload(address: str, port: int, enough: threading.Event, answers: list[bytes]) -> None:
    """POST to /echo byte by byte, the last ones after the event; append the whole answer to the list."""
    wire: socket.socket = socket.create_connection((address, port), timeout=60)
    if port == 443:
        context = trusting()
        wire = context.wrap_socket(wire, server_hostname=NAME)
    with wire:
        wire.sendall(
            b"POST /echo HTTP/1.1\r\nHost: %s\r\nContent-Length: 50\r\nConnection: close\r\n\r\n" % NAME.encode()
        )
        sent = 0
        while not enough.wait(0.1) and sent < 40:
            wire.sendall(b"x")
            sent += 1
        enough.wait(60)
        wire.sendall(b"x" * (50 - sent))
        told = b""
        while data := wire.recv(65536):
            told += data
    answers.append(told)


SLOW = """
import os, socket, sys, time
wire = socket.create_connection(("127.0.0.1", 8080), timeout=60)
wire.sendall(b"POST /echo HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 50\\r\\nConnection: close\\r\\n\\r\\n")
sent = 0
while not os.path.exists("/tmp/deployed"):
    time.sleep(0.1)
    if sent < 40:
        wire.sendall(b"x")
        sent += 1
wire.sendall(b"x" * (50 - sent))
while data := wire.recv(65536):
    sys.stdout.write(data.decode())
"""


@pytest.mark.promise(OWN_SOCKETS, "a slow upload across a deploy")
def test_an_upload_that_ends_after_a_deploy_arrives_whole(clone: Clone, shire: Hosts) -> None:
    address, before, enough = shire[0].address, clone.release(), threading.Event()
    by_nginx: list[bytes] = []
    by_listen: list[str] = []
    clients = (
        threading.Thread(target=upload, args=(address, 443, enough, by_nginx)),
        threading.Thread(target=lambda: by_listen.append(shire[0].sh("python3 -", SLOW.encode()).stdout.decode())),
    )
    put(clone, listen=LOCAL, env={"EDITION": "2"})
    for client in clients:
        client.start()
    slot = sh(shire, f"basename $(readlink {ROOT}/current)").strip()
    sh(shire, f"until ss -Hx state connected src /run/myapp/{slot}.sock | grep -q ESTAB; do sleep 0.05; done")
    sh(shire, "until ss -Htn state established '( sport = :443 )' | grep -q .; do sleep 0.05; done")
    clone.done("deploy", "-H", "shire01")
    enough.set()
    sh(shire, "touch /tmp/deployed")
    for client in clients:
        client.join()
    after = clone.release()
    assert release_of(address) == after != before
    for told, serves in ((by_nginx[0].decode(), after), (by_listen[0], before)):
        assert told.startswith("HTTP/1.1 200 "), told
        answer = json.loads(told.partition("\r\n\r\n")[2])
        # nginx reads the whole request before it connects; the proxy connects at the first byte.
        assert (answer["length"], answer["release"]) == (50, serves)


def secret(hosts: Hosts) -> str:
    """Return the secret of the host's own check."""
    return sh(hosts, "cat /etc/myapp/check/live").split()[1]


@pytest.mark.promise(OWN_SOCKETS, "somebody without the secret of the host's own check")
def test_no_address_is_the_hosts_own_way_in(clone: Clone, shire: Hosts) -> None:
    clone.done("maintenance", "on", "-H", "shire01")
    try:
        ask_it = f"curl -s -o /dev/null -w '%{{http_code}}' -k --resolve {NAME}:443:127.0.0.1 https://{NAME}/healthz"
        for own in (
            "--interface 127.0.0.83",
            "-H 'X-Loop-Check: live'",
            f"-H 'X-Loop-Check: {'0' * 32} live'",
            "-H X_Loop_Check:x",
        ):
            assert sh(shire, f"{ask_it} {own}") == "503", own
        assert sh(shire, f"{ask_it} -H @/etc/myapp/check/live") == "200"
        clone.done("health", "-H", "shire01")
        clone.done("restart", "-H", "shire01")
    finally:
        clone.done("maintenance", "off", "-H", "shire01")


def test_the_secret_is_the_deploy_accounts_and_roots_alone(clone: Clone, shire: Hosts) -> None:
    modes = sh(shire, "cd /etc/myapp/check && stat -c '%n %a %U' . *").split("\n")
    assert modes == [". 755 root", "blue 400 deploy", "green 400 deploy", "live 400 deploy", "map 600 root", ""]
    assert len(secret(shire)) == 32
    for account in ("myapp", "www-data", "nobody"):
        assert shire[0].sh(f"runuser -u {account} -- cat /etc/myapp/check/live").returncode != 0
    first = secret(shire)
    clone.done("setup", "-H", "shire01", "--as", "root")
    assert secret(shire) == first


@pytest.mark.promise(OWN_SOCKETS, "a service that keeps all headers it is sent")
def test_the_secret_is_shown_to_nobody(clone: Clone, shire: Hosts) -> None:
    shown = secret(shire)
    sh(shire, f"rm -f /tmp/enough /tmp/seen /var/lib/myapp/headers; cat >/root/sampler.py <<'END'\n{SAMPLER}END")
    sh(shire, "systemd-run -q --unit=sampler python3 /root/sampler.py")
    clone.write("service/echo.py", Path(clone.root / "service/echo.py").read_text() + KEEPS)
    texts = [clone.done("deploy", "-H", "shire01").both]
    texts += [clone.fab(*words, "-H", "shire01").both for words in VERBS]
    texts += [clone.fab("--dry", verb, "-H", "shire01").both for verb in ("deploy", "restart", "setup")]
    sh(shire, f"curl -s -k -H @/etc/myapp/check/live --resolve {NAME}:443:127.0.0.1 https://{NAME}/healthz")
    sh(shire, "touch /tmp/enough; while systemctl is-active -q sampler; do sleep 0.1; done")
    assert int(sh(shire, "cat /tmp/rounds")) > 20
    assert sh(shire, "cat /tmp/seen") == ""
    headers = sh(shire, "cat /var/lib/myapp/headers")
    assert "X-Forwarded-Proto" in headers
    assert shown not in headers
    assert set(re.findall(r"'x-loop-check': '([^']*)'", headers.lower())) <= {"blue", "green", "live"}
    assert shown not in "".join(texts)
    assert shire[0].sh(f"journalctl --sync; journalctl -b --no-pager -o json | grep -F {shown}").stdout == b""
    assert shire[0].sh(f"runuser -u nobody -- grep -rlsF {shown} /etc /run/myapp /opt/apps /var/log /tmp").stdout == b""
