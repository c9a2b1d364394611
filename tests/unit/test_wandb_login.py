"""Which W&B server is meant and where its key is found, and that the doctor says where, and never which."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.wandb_login import key_place, server_address
from launcher.doctor.services import examine_key, examine_services

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


SETTINGS = f"[default]\nbase_url = https://{OWN}\n"


def write_settings(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "settings").write_bytes(content)


def test_a_login_to_a_server_of_one_s_own_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable counts for more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert server_address({}) == "https://api.wandb.ai"
    write_settings(tmp_path / ".config" / "wandb", SETTINGS.encode())
    assert server_address({}) == f"https://{OWN}"
    assert server_address({"WANDB_BASE_URL": "https://other.invalid"}) == "https://other.invalid"
    assert server_address({"WANDB_CONFIG_DIR": str(tmp_path / "none")}) == "https://api.wandb.ai"


def test_the_doctor_asks_the_server_of_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9"
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    write_settings(tmp_path / "wandb", f"[default]\nbase_url = {address}\n".encode())
    found = {finding.topic: finding.found for finding in examine_services()}
    assert found["W&B"].startswith(f"{address} cannot be reached")


@pytest.mark.parametrize(
    "content", [b"", b"base_url", b"[other]\nbase_url=x", b"[default]\n\xff", b"[default]\nmode=%"]
)
def test_a_project_s_file_that_names_no_server_leaves_the_person_s(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path / "home", SETTINGS.encode())
    write_settings(tmp_path / "wandb", content)
    assert server_address({"WANDB_CONFIG_DIR": str(tmp_path / "home")}) == f"https://{OWN}"
