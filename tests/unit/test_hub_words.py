"""Hub names that cannot be fetched: what a person reads, by the real client against a server of this machine."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launcher.facts.hub import Hub, fetch_data, fetch_model
from launcher.facts.hub_words import in_words

ANSWERS = {
    "team/absent": (404, {"X-Error-Code": "RepoNotFound"}),
    "team/gated": (403, {"X-Error-Code": "GatedRepo"}),
    "team/model": (404, {"X-Error-Code": "RevisionNotFound"}),
}


class Handler(BaseHTTPRequestHandler):
    """Answers like the hub for the names in `ANSWERS`."""

    def do_GET(self) -> None:
        status, headers = next((answer for name, answer in ANSWERS.items() if name in self.path), (500, {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def hub(home: Path, endpoint: str, **environment: str) -> Hub:
    names = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "HF_HUB_ETAG_TIMEOUT": "2"}
    return Hub(sys.executable, {**names, **environment}, fetch=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("team/absent", "is no folder here and no repository on the hub, or a private one", id="absent"),
        pytest.param("team/gated", "is gated: accept its conditions at https://huggingface.co/team/gated", id="gated"),
        pytest.param("team/model", "has no revision 'v9' on the hub (model.revision)", id="revision"),
        pytest.param("one/two/three", "cannot be a name on the hub (owner/name)", id="no name"),
    ],
)
def test_what_the_hub_says_of_a_name(tmp_path: Path, endpoint: str, name: str, words: str) -> None:
    answer = fetch_model(name, "v9", hub(tmp_path, endpoint), weights=False)
    assert words in answer["error"]
    assert "Error" not in answer["error"]


def test_a_hub_that_nobody_answers_for(tmp_path: Path, closed_port: int) -> None:
    answer = fetch_model("team/model", None, hub(tmp_path, f"http://127.0.0.1:{closed_port}"), weights=False)
    command = "`hf download team/model`"
    assert "the hub cannot be reached from here" in answer["error"]
    assert command in answer["error"]
    assert str(tmp_path / "hub") in answer["error"]


def test_a_hub_that_may_not_be_asked(tmp_path: Path, endpoint: str) -> None:
    answer = fetch_model("team/model", None, hub(tmp_path, endpoint, HF_HUB_OFFLINE="1"), weights=False)
    assert "HF_HUB_OFFLINE forbids to ask the hub" in answer["error"]


def test_data_that_is_not_there(tmp_path: Path, endpoint: str) -> None:
    answer = fetch_data("team/absent", None, hub(tmp_path, endpoint))
    assert "is no folder here and no repository on the hub, or a private one" in answer["error"]
    assert "https://huggingface.co/datasets/team/absent" in answer["error"]


def test_an_error_that_is_not_known_keeps_its_words() -> None:
    said = in_words("a/b", ["OSError"], "OSError: no space left", data=False, revision=None, cache="/x")
    assert said == "could not be fetched: OSError: no space left"
