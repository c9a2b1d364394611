"""Where a key for W&B is found, and that the doctor says where, and never which."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.wandb_key import key_place
from launcher.doctor.services import examine_key

OWN = "wandb.example.invalid"
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "netrc"
    path.write_text(f"machine {OWN}\n  login user\n  password {KEY}\n")
    path.chmod(0o600)
    return path


def test_the_environment_comes_first(stored: Path) -> None:
    assert key_place(OWN, {"WANDB_API_KEY": KEY, "NETRC": str(stored)}) == "WANDB_API_KEY"


@pytest.mark.parametrize(("host", "found"), [(OWN, True), ("api.wandb.ai", False), ("other.invalid", False)])
def test_a_stored_key_is_for_its_server(host: str, found: bool, stored: Path) -> None:
    assert key_place(host, {"NETRC": str(stored)}) == (str(stored) if found else None)


@pytest.mark.parametrize("content", [b"", b"machine", b"machine \0 x y z", b"machine \xff\xfe"])
def test_a_broken_file_holds_none(content: bytes, stored: Path) -> None:
    stored.write_bytes(content)
    assert key_place(OWN, {"NETRC": str(stored)}) is None


@pytest.mark.parametrize("name", ["missing", "."])
def test_no_file_holds_none(name: str, tmp_path: Path) -> None:
    assert key_place(OWN, {"NETRC": str(tmp_path / name)}) is None


def test_the_doctor_asks_for_the_server_in_use(stored: Path) -> None:
    environment = {"NETRC": str(stored)}
    finding = examine_key(f"https://{OWN}:8080/base", environment)
    assert finding.ok
    assert str(stored) in finding.found
    assert not examine_key("https://api.wandb.ai", environment).ok
    stored.chmod(0o644)
    exposed = examine_key(f"https://{OWN}", environment)
    assert not exposed.ok
    assert "chmod 600" in exposed.follows
    assert KEY not in f"{finding}{exposed}"
