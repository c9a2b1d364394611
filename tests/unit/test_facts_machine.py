"""What passes from the person's shell, and versions without importing anything."""

from __future__ import annotations

import importlib.metadata

import pytest

from launcher.facts.machine import PACKAGES, cpu_count, heavy_packages, memory_gib, passing, versions


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("HTTPS_PROXY", "http://proxy:3128", True),
        ("HTTPS_PROXY", "http://ada:pass@proxy:3128", False),
        ("https_proxy", "ada:pass@proxy:3128", False),
        ("SSL_CERT_FILE", "/etc/ssl/ca.pem", True),
        ("NCCL_DEBUG", "INFO", True),
        ("EDITOR", "vim", False),
        ("HF_TOKEN", "x", False),
        ("WANDB_API_KEY", "x", False),
        ("MY_PASSWORD", "x", False),
        ("NCCL_TOPO", "a\nb", False),
    ],
)
def test_what_passes(name: str, value: str, passes: bool) -> None:
    """Proxies, certificates and what `cluster.pass_env` names; never a secret, and what is held back is said."""
    more = [] if name == "EDITOR" else [name]
    passed, notes = passing({name: value, "PATH": "/bin"}, more)
    assert passed == ({name: value} if passes else {})
    assert [note.split(" does not pass")[0] for note in notes] == ([] if passes or not more else [name])
    assert value not in "".join(notes) or value == "x"


def test_versions_are_those_of_the_packages() -> None:
    found = versions()
    assert found == {name: importlib.metadata.version(name) for name in PACKAGES if name in found}
    assert {"muster", "hydra-core", "omegaconf"} <= set(found)


def test_this_machine() -> None:
    assert cpu_count() >= 1
    assert memory_gib() > 0.1
    assert heavy_packages() <= {
        "torch",
        "deepspeed",
        "transformers",
        "datasets",
        "wandb",
        "huggingface_hub",
        "tokenizers",
    }
