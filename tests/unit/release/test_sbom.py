"""The bill of materials of a release: the form of CycloneDX 1.6, and the same bytes for the same wheels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tasks.engine.release import sbom
from tasks.engine.release.wheel_cache import Wheel
from tasks.engine.release.wheelhouse import Wheelhouse

NAMES = ("MarkupSafe-3.0.4-cp311-cp311-manylinux_2_28_x86_64.whl", "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
         "typing_extensions-1!4.16.0-py3-none-any.whl")  # fmt: skip
PLACES = ["pkg:pypi/markupsafe@3.0.4", "pkg:pypi/torch@2.13.0%2Bcpu", "pkg:pypi/typing-extensions@1%214.16.0"]


def wheelhouse(*names: str, digest: str = "a") -> Wheelhouse:
    return Wheelhouse("d" * 64, tuple(Wheel(name, Path("/nowhere"), digest * 64, 1) for name in names))


def read(*names: str) -> Any:
    return json.loads(sbom.render("myapp", "b" * 12, wheelhouse(*names)))


def test_it_has_what_the_schema_of_cyclonedx_requires() -> None:
    found = read(*NAMES)
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(
        "urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", found["serialNumber"]
    )
    assert found.keys() == {"bomFormat", "specVersion", "version", "serialNumber", "metadata", "components",
                            "dependencies"}  # fmt: skip
    components = [found["metadata"]["component"], *found["components"]]
    assert [one["type"] for one in components] == ["application", "library", "library", "library"]
    assert all(one["name"] and one["version"] for one in components)
    references = [one["bom-ref"] for one in components]
    assert len(set(references)) == len(references)
    assert found["dependencies"] == [{"ref": references[0], "dependsOn": references[1:]}]


def test_it_names_each_package_by_its_address_and_the_digest_of_its_wheel() -> None:
    found = read(*NAMES)["components"]
    assert [one["purl"] for one in found] == PLACES
    assert [(one["name"], one["version"]) for one in found][1:] == [
        ("torch", "2.13.0+cpu"), ("typing-extensions", "1!4.16.0")
    ]  # fmt: skip
    assert found[0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_the_same_wheels_make_the_same_bytes_in_any_order_and_others_do_not() -> None:
    made = sbom.render("myapp", "b" * 12, wheelhouse(*NAMES))
    assert sbom.render("myapp", "b" * 12, wheelhouse(*reversed(NAMES))) == made
    others = {
        sbom.render("other", "b" * 12, wheelhouse(*NAMES)),
        sbom.render("myapp", "c" * 12, wheelhouse(*NAMES)),
        sbom.render("myapp", "b" * 12, wheelhouse(*NAMES[1:])),
        sbom.render("myapp", "b" * 12, wheelhouse(*NAMES, digest="b")),
    }
    assert len({json.loads(text)["serialNumber"] for text in {made, *others}}) == 5


def test_a_person_finds_a_package_in_its_line() -> None:
    lines = sbom.render("myapp", "b" * 12, wheelhouse(*NAMES)).decode().splitlines()
    assert [line.count('"purl"') for line in lines] == [1, 1, 1]
    assert read()["components"] == read()["dependencies"] == []
