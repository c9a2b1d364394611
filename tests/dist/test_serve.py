"""`muster serve` as clients meet it: the real command, real models, real HTTP; httpx, and urllib without any help."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from conf.serving import ServeSettings
from tests.dist import served_models
from tests.dist.served_models import LABELS
from train.serve.app import Desk, make_app

pytestmark = pytest.mark.dist

ROOT = Path(__file__).parent.parent.parent
CANARY = "canary-5f1e9a77d0c4"
START_S = 120
LONGEST, FOREVER = 1_000_000, 900_000
COUNT = {"prompt": "one two", "temperature": 0}


@dataclass
class Server:
    """A server process, everything it said, and what its health was while it started."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    healths: list[tuple[int, str]] = field(default_factory=list)
    url: str = ""

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=START_S)

    def said(self) -> str:
        return "".join(self.lines)


def start(folder: Path, *flags: str, key: str | None = None) -> Server:
    """Start `muster serve`; come back at once."""
    environment = {name: value for name, value in os.environ.items() if name != "MUSTER_API_KEY"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"MUSTER_API_KEY": key} if key else {}
    words = [sys.executable, "-m", "muster", "serve", str(folder), "--port", "0", "--threads", "1", *flags]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    server = Server(process)

    def extend() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.lines.append(line)

    threading.Thread(target=extend, daemon=True).start()
    return server


def wait_until_ready(server: Server) -> None:
    """Ask for its health until it is ready."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.said()
        found = re.search(r"(http://\S+)/health", server.said())
        if found:
            server.url = found[1]
            health = httpx.get(f"{server.url}/health", timeout=START_S)
            server.healths.append((health.status_code, health.json()["status"]))
            if health.status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(server.said())


def end(server: Server, number: int = signal.SIGINT) -> int:
    """End it as Ctrl-C does; its exit status."""
    if server.process.poll() is None:
        server.process.send_signal(number)
    return server.process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code > 0
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    served_models.write_counter(folder / "counter")
    served_models.write_classifier(folder / "classifier")
    served_models.write_summarizer(folder / "summarizer")
    served_models.write_adapter(folder / "adapter", folder / "counter")
    return folder


@pytest.fixture(scope="module")
def servers(models: Path) -> Iterator[dict[str, Server]]:
    """All servers, started side by side; one of them belongs to a run."""
    many = ("--max-new-tokens", str(LONGEST))
    run = models / "runs" / "demo-12345678"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "export").symlink_to(models / "classifier")
    found = {
        "causal": start(models / "counter", "--queue", "1", "--max-request-bytes", "20000", *many, key=CANARY),
        "seq_cls": start(Path("demo"), "--run-root", str(run.parent), "--batch-size", "2"),
        "seq2seq": start(
            models / "summarizer", "--timeout", "1.5", "--name", "short", "--max-prompt-tokens", "20", *many
        ),
    }
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(wait_until_ready, found.values()))
        yield found
    finally:
        for server in found.values():
            server.process.kill()


@pytest.fixture
def causal(servers: dict[str, Server]) -> Iterator[httpx.Client]:
    with servers["causal"].client(CANARY) as client:
        yield client


def events_of(response: httpx.Response) -> list[Any]:
    """What a stream sent: each event's JSON, and `[DONE]` as it is."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def test_until_the_model_is_there_it_says_that_it_is_loading(servers: dict[str, Server]) -> None:
    assert len(servers) == 3
    for server in servers.values():
        assert server.healths[0] == (503, "loading")
        assert server.healths[-1] == (200, "ready")


def test_while_the_model_loads_all_that_needs_it_is_refused() -> None:
    desk = Desk(ServeSettings(folder="", name="late"))
    bodies: dict[str, Any] = {"/v1/completions": COUNT, "/v1/classify": {"input": "a"}, "/v1/summarize": {"input": "a"}}
    bodies["/v1/chat/completions"] = {"messages": [{"role": "user", "content": "a"}]}

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(desk)), base_url="http://test") as client:
            posts = [await client.post(path, json=body) for path, body in bodies.items()]
            return [await client.get("/v1/models"), *posts]

    answers = asyncio.run(ask())
    assert len(answers) == 5
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "loading"
        assert "retry-after" in answer.headers


def test_models_are_listed(causal: httpx.Client) -> None:
    (model,) = causal.get("/v1/models").json()["data"]
    assert model["id"] == "counter"
    assert model["object"] == "model"


def test_urllib_gets_a_chat_answer_by_the_command_that_was_printed(servers: dict[str, Server]) -> None:
    server = servers["causal"]
    line = next(line for line in server.lines if line.startswith("curl ") and "chat" in line)
    url, body = line.split()[1], json.loads(line.rpartition("-d ")[2].strip().strip("'"))
    headers = {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({**body, "temperature": 0, "max_tokens": 6}).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.loads(response.read())
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 6


def test_a_completion_counts_on(causal: httpx.Client) -> None:
    answer = causal.post("/v1/completions", json={**COUNT, "model": "counter", "max_tokens": 9}).json()
    (choice,) = answer["choices"]
    assert "three one two three" in choice["text"]
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 9
    assert usage["total_tokens"] == 9 + usage["prompt_tokens"]


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("stop", [None, ["thr"], ["nothing like it", "o th"]], ids=str)
def test_a_stream_says_what_the_whole_answer_says(causal: httpx.Client, chat: bool, stop: list[str] | None) -> None:
    prompt = {"messages": [{"role": "user", "content": "one two"}]} if chat else {"prompt": "one two"}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = {**prompt, "temperature": 0, "max_tokens": 12, "stop": stop}
    whole = causal.post(path, json=body).json()
    streamed = causal.post(path, json={**body, "stream": True, "stream_options": {"include_usage": True}})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *events, last = events_of(streamed)
    assert last == "[DONE]"
    choices = [event["choices"][0] for event in events[:-1]]
    pieces = [choice["delta"].get("content", "") if chat else choice["text"] for choice in choices]
    text = whole["choices"][0]["message"]["content"] if chat else whole["choices"][0]["text"]
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > (0 if stop else 3)
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"] == ("stop" if stop else "length")
    assert events[-1]["usage"] == whole["usage"]
    if stop:
        assert not any(word in text for word in stop)
        assert whole["usage"]["completion_tokens"] < 12


def test_a_seed_repeats_an_answer_and_another_one_does_not(causal: httpx.Client) -> None:
    body = {"prompt": "one", "max_tokens": 24, "temperature": 2.0, "top_p": 0.99}

    def answer(seed: int) -> str:
        return str(causal.post("/v1/completions", json={**body, "seed": seed}).json()["choices"][0]["text"])

    answers = [answer(seed) for seed in (1, 2, 3)]
    assert answers == [answer(seed) for seed in (1, 2, 3)]
    assert len(set(answers)) == 3


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("/v1/chat/completions", {"messages": []}, 400, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 2}, 400, "n"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, 400, "tools"),
    ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "a"}]}, 400, "no tools"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "type"),
    ("/v1/completions", {"prompt": "one", "max_tokens": "many"}, 400, "max_tokens"),
    ("/v1/completions", {"prompt": "one", "max_tokens": LONGEST + 1}, 400, str(LONGEST)),
    ("/v1/completions", {"prompt": "one", "temperature": -1}, 400, "temperature"),
    ("/v1/completions", {"prompt": ["one", "two"]}, 400, "prompt"),
    ("/v1/completions", {"prompt": [5, 96]}, 400, "95"),
    ("/v1/completions", {"prompt": ""}, 400, "prompt"),
    ("/v1/completions", {"prompt": "one", "stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
    ("/v1/completions", {"prompt": "one", "model": "gpt-5"}, 404, "counter"),
    ("/v1/completions", {"prompt": "one " * 6000}, 413, "20000"),
    ("/v1/classify", {"input": "one"}, 400, "/v1/chat/completions"),
    ("/v1/embeddings", {"input": "one"}, 404, "Not Found"),
]


@pytest.mark.parametrize(("path", "body", "status", "word"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said_in_the_shape_of_openai(
    causal: httpx.Client, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    response = causal.post(path, json=body)
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert word in response.json()["error"]["message"]


def test_a_body_that_is_not_json_is_refused(causal: httpx.Client) -> None:
    assert causal.post("/v1/completions", content="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert causal.post("/v1/completions", content=json.dumps(COUNT)).status_code == 415


@pytest.mark.parametrize("key", [None, "wrong", CANARY[:-1], f"{CANARY}x"], ids=str)
def test_without_the_key_nothing_is_answered(servers: dict[str, Server], key: str | None) -> None:
    with servers["causal"].client(key) as client:
        assert client.get("/health").status_code == 200
        for response in (client.get("/v1/models"), client.post("/v1/completions", json=COUNT), client.get("/x")):
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"


def test_without_a_key_requests_for_another_host_are_refused(servers: dict[str, Server]) -> None:
    with servers["seq_cls"].client() as client:
        assert client.get("/v1/models", headers={"Host": "pages.example:80"}).status_code == 403
        assert client.get("/v1/models", headers={"Host": "localhost"}).status_code == 200


def test_one_is_answered_one_waits_and_more_are_sent_away(servers: dict[str, Server], causal: httpx.Client) -> None:
    """Answers that would take for ever end when their clients leave, or the last request would never be answered."""
    server = servers["causal"]
    endless = {**COUNT, "max_tokens": FOREVER, "stream": True}
    with server.client(CANARY) as first, first.stream("POST", "/v1/completions", json=endless) as running:
        lines = running.iter_lines()
        assert next(lines).startswith("data: ")
        with server.client(CANARY) as second, second.stream("POST", "/v1/completions", json=endless) as waiting:
            assert waiting.status_code == 200
            refused = causal.post("/v1/completions", json=COUNT)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "queue_full"
            assert "retry-after" in refused.headers
            assert causal.get("/health").status_code == 200
    whole = threading.Thread(target=_leave_early, args=(server,))
    whole.start()
    whole.join()
    answers = (causal.post("/v1/completions", json=COUNT) for _ in range(200))
    assert next(answer for answer in answers if answer.status_code != 429).status_code == 200
    assert len(re.findall("200 client gone", server.said())) == 2
    assert len(re.findall("- client gone", server.said())) == 1


def _leave_early(server: Server) -> None:
    """Ask for a whole answer that takes for ever, and hang up."""
    with server.client(CANARY) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json={**COUNT, "max_tokens": FOREVER}, timeout=0.5)


def test_texts_are_classified_in_batches_as_transformers_does(servers: dict[str, Server], models: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models / "classifier")
    model = AutoModelForSequenceClassification.from_pretrained(models / "classifier").eval()
    texts = ["one", "two three one two three", "a", "b + c = 3", "1 2 3"]
    with servers["seq_cls"].client() as client:
        answer = client.post("/v1/classify", json={"input": texts}).json()
        single = client.post("/v1/classify", json={"input": {"text": "one", "text_pair": "two"}}).json()
        long = {"input": "one " * 100}
        refused, cut = (client.post("/v1/classify", json={**long, "truncate": cut}) for cut in (False, True))
    assert answer["model"] == "demo-12345678"
    assert [entry["index"] for entry in answer["data"]] == list(range(5))
    for text, entry in zip(texts, answer["data"], strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        assert entry["probabilities"] == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
        assert entry["label"] == LABELS[expected.index(max(expected))]
    assert len(single["data"]) == 1
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert cut.json()["usage"]["prompt_tokens"] == 64


def test_summaries_are_those_of_transformers_with_beams(servers: dict[str, Server], models: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models / "summarizer")
    model = AutoModelForSeq2SeqLM.from_pretrained(models / "summarizer").eval()
    texts = ["one two three", "a b c 1 2 3"]
    with servers["seq2seq"].client() as client:
        answer = client.post("/v1/summarize", json={"input": texts, "max_tokens": 7, "num_beams": 3}).json()
        long = client.post("/v1/summarize", json={"input": "one two " * 20, "max_tokens": 7})
        late = client.post("/v1/summarize", json={"input": "one", "max_tokens": FOREVER})
    for text, entry in zip(texts, answer["data"], strict=True):
        output = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=7, num_beams=3)
        assert entry["summary"] == tokenizer.decode(output[0], skip_special_tokens=True).strip()
    assert answer["usage"]["completion_tokens"] > 7
    assert long.json()["error"]["code"] == "context_length_exceeded"
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "timeout"
    assert late.headers["x-should-retry"] == "false"


def test_an_adapter_is_served_on_its_base(models: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM

    from train.serve.generation import generate
    from train.serve.served import load
    from train.serve.wish import Wish

    served = load(ServeSettings(folder=str(models / "adapter"), name="adapter", device="cpu"))
    expected = AutoPeftModelForCausalLM.from_pretrained(models / "adapter").eval()
    ids = served.tokenizer("one two")["input_ids"]
    with torch.no_grad():
        difference = served.model(torch.tensor([ids])).logits - expected(torch.tensor([ids])).logits
    assert float(difference.abs().max()) == 0.0
    wish = Wish(new_tokens=8, deadline=time.monotonic() + 60, timeout_s=60, temperature=0)
    pieces: list[str] = []
    finish = generate(served, ids, wish, pieces.append, threading.Event())
    output = expected.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :]
    assert "".join(pieces).strip() == served.tokenizer.decode(output, skip_special_tokens=True).strip()
    assert finish.completion_tokens == len(output)


def test_another_python_without_the_packages_is_named(models: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    server = start(models / "counter", "--python", str(tmp_path / "bare" / "bin" / "python"))
    assert server.process.wait(30) == 2
    assert "fastapi" in server.said()


def test_the_key_is_nowhere_and_all_end_in_order(servers: dict[str, Server]) -> None:
    """Last, since it ends the servers: by Ctrl-C in the middle of an answer, by SIGTERM, and by losing the command."""
    server = servers["causal"]
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert len(children) == 1
    for pid in (str(server.process.pid), *children):
        assert CANARY not in Path(f"/proc/{pid}/cmdline").read_text()
    endless = {**COUNT, "max_tokens": FOREVER, "stream": True}
    with server.client(CANARY) as client, client.stream("POST", "/v1/completions", json=endless) as running:
        lines = running.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGINT)
        *_, error, done = (line for line in lines if line)
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "ending"
        assert done == "data: [DONE]"
    assert server.process.wait(30) == 0
    assert end(servers["seq_cls"], signal.SIGTERM) == 0
    abandoned = servers["seq2seq"]
    abandoned.process.kill()
    while _answers(abandoned.url):
        time.sleep(0.05)
    for server in servers.values():
        assert "Traceback" not in server.said()
        assert CANARY not in server.said()
