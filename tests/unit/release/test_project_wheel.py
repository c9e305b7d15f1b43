"""The wheel of the project in service/: built from the files of the release, unpacked, and equal for equal files."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.release import archive, build, project_wheel
from tasks.engine.release.archive import Entry
from tests.support import distributions

pytestmark = pytest.mark.usefixtures("forked_pip")
PROJECT = """\
[project]
name = "shop"
version = "1.5"

[project.scripts]
shop-admin = "shop.admin:main"

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
# A backend without requirements. It puts its environment into the wheel, and what one from an index would add.
BACKEND = """
import os
import zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "shop-1.5-TAG.whl", "shop-1.5.dist-info"
    files = {f"shop/{path.name}": path.read_text() for path in sorted(Path("shop").iterdir()) if path.is_file()}
    files["shop/made.py"] = "EPOCH = " + os.environ["SOURCE_DATE_EPOCH"] + "\\n"
    files["shop/version.py"] = "VERSION = '" + os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"] + "'\\n"
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.5\\n"
    tool = f"Generator: random {os.urandom(8).hex()}\\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\\n{tool}Root-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[f"{info}/entry_points.txt"] = "[console_scripts]\\nshop-admin = shop.admin:main\\n"
    files["shop-1.5.data/scripts/old-style"] = "#!python\\nprint('old style')\\n"
    EXTRA
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"]))
    return name
"""
ADMIN = (
    "import sys\nfrom importlib.metadata import version\n\n\ndef main():\n    print(version('shop'), *sys.argv[1:])\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is a package, and an empty cache; no index."""
    (tmp_path / "links").mkdir()
    distributions.isolate(monkeypatch, tmp_path / "links")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return project(tmp_path / "one")


def project(root: Path, tag: str = "py3-none-any", extra: str = "pass") -> Path:
    for path, text in {
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND.replace("TAG", tag, 1).replace("EXTRA", extra),
        "shop/__init__.py": "",
        "shop/admin.py": ADMIN,
        ".gitignore": "*.css\n",
        "shop/site.css": "body {}",
        "service.yaml": "name: demo\n",
        "requirements.txt": f"gunicorn==23.0.0 --hash=sha256:{'a' * 64}\n",
    }.items():
        target = root / "service" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def built(root: Path) -> tuple[Entry, ...]:
    return project_wheel.build(archive.collect(root), root / "service")


def content(site: tuple[Entry, ...]) -> dict[str, bytes]:
    return {entry.path: entry.read() for entry in site}


def test_the_site_is_the_wheel_of_what_the_release_carries_and_says_nothing_of_the_tool(root: Path) -> None:
    site = content(built(root))
    assert {*site} == {
        "bin/old-style", "bin/shop-admin", "shop/__init__.py", "shop/admin.py", "shop/made.py", "shop/site.css",
        "shop/version.py", "shop-1.5.dist-info/METADATA", "shop-1.5.dist-info/RECORD", "shop-1.5.dist-info/WHEEL",
        "shop-1.5.dist-info/entry_points.txt",
    }  # fmt: skip
    assert site["shop/made.py"] == b"EPOCH = 315532800\n"
    assert site["shop/version.py"] == b"VERSION = '0'\n"
    assert b"Generator" not in site["shop-1.5.dist-info/WHEEL"]
    assert site["shop-1.5.dist-info/RECORD"].splitlines() == sorted(site["shop-1.5.dist-info/RECORD"].splitlines())


def test_a_script_runs_by_the_venv_of_its_release_wherever_that_is(root: Path, tmp_path: Path) -> None:
    release = tmp_path / "re lease"
    for entry in built(root):
        target = release / "site" / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(entry.read())
        target.chmod(entry.mode)
    (release / "venv/bin").mkdir(parents=True)
    (release / "venv/bin/python").symlink_to(sys.executable)
    environment = {"PATH": f"{release}/site/bin:{os.defpath}", "PYTHONPATH": str(release / "site")}
    shown = subprocess.run(["shop-admin", "a b"], env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert shown.stdout == "1.5 a b\n"
    shown = subprocess.run(["old-style"], env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert shown.stdout == "old style\n"


def test_equal_files_have_the_same_release_on_any_controller(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.build(root, {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    second = build.build(project(tmp_path / "two"), {})
    assert first.id == second.id
    assert content(first.site) == content(second.site)
    (tmp_path / "two/service/backend.py").write_text(BACKEND.replace("TAG", "py3-none-any").replace("EXTRA", "pass  #"))
    assert build.build(tmp_path / "two", {}).id != first.id


def test_equal_files_are_built_once_and_a_damaged_site_again(root: Path, tmp_path: Path) -> None:
    first = content(built(root))
    (made,) = (tmp_path / "cache/integrators-loop/projects").iterdir()
    inode = (made / "site/shop/made.py").stat().st_ino
    assert content(built(root)) == first
    assert (made / "site/shop/made.py").stat().st_ino == inode
    (made / "site/shop/admin.py").write_text("edited")
    assert content(built(root)) == first
    (root / "service/shop/admin.py").write_text("changed = 1\n")
    assert content(built(root))["shop/admin.py"] == b"changed = 1\n"
    os.utime(made, (1, 1))
    built(root)
    assert not made.exists()


def test_a_project_without_a_build_system_is_no_package(root: Path) -> None:
    path = root / "service/pyproject.toml"
    path.write_text(PROJECT.partition("[build-system]")[0])
    assert build.build(root, {}).site == ()
    path.write_text(f"{PROJECT}\n[tool.uv]\npackage = false\n")
    assert build.build(root, {}).site == ()


@pytest.mark.parametrize(
    ("tag", "extra", "message", "detail"),
    [
        ("py3-none-any", "raise SystemExit('no such module: shop')", "could not be built", "no such module: shop"),
        ("cp311-cp311-linux_x86_64", "pass", "does not fit every Python: shop-1.5-cp311-cp311-linux_x86_64.whl", ""),
        ("py3-none-any", "files['../outside.py'] = ''", "cannot be unpacked: '../outside.py' lies outside", ""),
        ("py3-none-any", "files['shop/.env'] = 'KEY=1'", "has a file that cannot go into a release", "shop/.env"),
        (
            "py3-none-any",
            "files['shop/key'] = '-----BEGIN PRIV' + 'ATE KEY-----'",
            "cannot go into a release",
            "private key",
        ),
    ],
    ids=["fails", "compiled", "outside", "secrets", "key"],
)
def test_a_project_without_a_fitting_wheel_is_refused(
    root: Path, tmp_path: Path, tag: str, extra: str, message: str, detail: str
) -> None:
    with pytest.raises(UsageError) as caught:
        built(project(root, tag, extra))
    assert message in caught.value.message
    assert caught.value.where == "service/pyproject.toml"
    assert caught.value.next
    assert detail in "\n".join(caught.value.detail)
    assert str(tmp_path) not in "\n".join(caught.value.detail)
    assert not [*(tmp_path / "cache/integrators-loop/projects").iterdir()]


def test_a_build_may_print_more_than_memory_holds(root: Path) -> None:
    loud = project(
        root,
        extra="[print('x' * 999_999) for _ in range(30)]; print('the last words', flush=True); raise SystemExit(1)",
    )
    tracemalloc.start()
    with pytest.raises(UsageError, match="could not be built") as caught:
        built(loud)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert "the last words" in "\n".join(caught.value.detail)


def test_without_what_the_build_needs_it_says_so(root: Path) -> None:
    path = root / "service/pyproject.toml"
    path.write_text(path.read_text().replace("requires = []", 'requires = ["nowhere-to-be-found"]'))
    with pytest.raises(UsageError, match="could not be built") as caught:
        built(root)
    assert "takes the `requires` of [build-system] from" in str(caught.value.next)
    assert "nowhere-to-be-found" in "\n".join(caught.value.detail)


@pytest.mark.parametrize(("place", "refused"), [("shop/media", True), ("media", False), ("shop-media", False)])
def test_a_shared_directory_of_the_package_is_refused(root: Path, place: str, refused: bool) -> None:
    """Once: its link was in the code, and the package, which runs from its wheel, could not write there."""
    if not refused:
        assert build.build(root, {}, shared=(place,)).site
        return
    with pytest.raises(UsageError, match=f"{place} is `shared`, and lies in the package shop") as caught:
        build.build(root, {}, shared=(place,))
    assert caught.value.where == "service/service.yaml (shared)"
