"""The documents are true: their commands plan or parse, what they name and link to is there.

A ```bash block is taken line by line: `muster plan` runs as it stands, `run` and `submit` are planned with the same
words, other verbs have to know their flags, `make` its targets, `pip` its extras. In ```text blocks a command ends at
two spaces.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import cli

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SITE = re.search(
    r"```yaml\n# ~/.config/muster/cluster/mysite.yaml.*?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)
SHAPE = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "vocab_size": 512}
SHAPES = {
    "my-model": SHAPE,
    "my-bert": {**SHAPE, "model_type": "bert", "max_position_embeddings": 512},
    "my-t5": {"model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "vocab_size": 512},
}


def commands() -> Iterator[tuple[str, str]]:
    """Every command of every page."""
    for page in PAGES:
        for kind, block in re.findall(r"```(bash|text)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                command = re.split(r" {2,}", line)[0] if kind == "text" else line
                if kind == "bash" or command.startswith("muster "):
                    yield page.name, command


COMMANDS = sorted({command for _, command in commands() if command.strip()})
MUSTER = [command for command in COMMANDS if command.startswith("muster ")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder with the files that the pages speak of, and their cluster's file."""
    rows = {
        "train.jsonl": {"prompt": "How are you?", "response": "Fine."},
        "questions.jsonl": {"question": "2 + 2?", "answer": "4"},
        "alpaca.jsonl": {"instruction": "Say hello.", "output": "Hello."},
        "chat.jsonl": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        "texts.jsonl": {"text": "A text of the field."},
        "summaries.jsonl": {"document": "A long text.", "summary": "A text."},
        "labels.jsonl": {"text": "What a day.", "label": "good"},
        "tags.jsonl": {"text": "What a day.", "label": ["good", "long"]},
        "scores.jsonl": {"text": "What a day.", "label": 0.5},
        "shards/part-0.jsonl": {"prompt": "How are you?", "response": "Fine."},
        "validation.jsonl": {"prompt": "How are you?", "response": "Fine."},
        "gsm8k/train.jsonl": {"question": "2 + 2?", "answer": "4"},
        "gsm8k/test.jsonl": {"question": "2 + 3?", "answer": "5"},
    }
    for name, row in rows.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((json.dumps(row) + "\n") * 200)
    labelled = [json.dumps(rows["labels.jsonl"] | {"label": label}) + "\n" for label in ("good", "bad")]
    (tmp_path / "project" / "labels.jsonl").write_text("".join(labelled) * 100)
    (tmp_path / "project" / "train.py").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "project", check=True)
    (tmp_path / "project" / "chat.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    for name, shape in SHAPES.items():
        model = tmp_path / "project" / name
        model.mkdir()
        (model / "config.json").write_text(json.dumps(shape))
        (model / "tokenizer.json").write_text("{}")
        (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    site = tmp_path / "home" / ".config" / "muster" / "cluster" / "mysite.yaml"
    site.parent.mkdir(parents=True)
    assert SITE is not None
    site.write_text(SITE[1])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("command", MUSTER)
def test_a_command_plans_or_parses(command: str, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    verb, *words = shlex.split(command, comments=True)[1:]
    assert verb in cli.VERBS
    if verb in ("plan", "run", "submit") and words:
        before = sorted(project.rglob("*"))
        assert cli.main(["plan", *words]) == 0, capfd.readouterr().err
        assert capfd.readouterr().out.strip()
        assert sorted(project.rglob("*")) == before
        return
    action = words[:1] if verb == "sweep" and words else []
    assert cli.main([verb, *action, "--help"]) == 0
    known = capfd.readouterr().out
    for word in words:
        assert not word.startswith("-") or re.search(rf"(^|[\s,]){re.escape(word)}\b", known), word


def test_other_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in COMMANDS:
        program, *words = shlex.split(command, comments=True)
        if program == "make":
            assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words), command
        elif program == "pip":
            assert words[0] == "install"
            named = re.findall(r"\[(.*?)\]", command)
            assert all(extra in extras for extra in ",".join(named).split(",") if extra), command
        else:
            assert program == "muster", command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_options_are_there(page: Path) -> None:
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    for group, option in re.findall(r"(?<![\w.])(\w+)=([\w.-]*\w)", page.read_text()):
        if group in groups and option not in ("mysite", "rates"):
            assert (ROOT / "conf" / group / f"{option}.yaml").is_file(), f"{group}={option}"
