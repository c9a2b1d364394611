"""The documents are true: their commands plan or parse, what they name and link to is there.

Every fenced block says its language. In ```bash blocks each line is a command, in ```text and indented blocks a line
that begins with `muster`, which ends at two spaces. A ```console block that begins with `$ muster plan` shows what it
says, line for line. `muster plan` runs as it
stands, `run` and `submit` are planned with the same words, other verbs have to know their flags
(`tests/dist/test_docs.py` runs those that read a run), `make` its targets, `pip` its extras, `python -m` its modules.

A comment line `# needs …` (a cluster, a GPU, a network, root) marks the rest of its block: no test runs it, and
programs of others may stand there. What of it is ours is planned or parsed all the same.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher import cli

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}(?=muster )((?:.*\\\n)*.*)", re.MULTILINE)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SITE = re.search(
    r"```yaml\n# ~/.config/muster/cluster/mysite.yaml.*?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)
LANGUAGES = ("bash", "console", "text", "yaml", "python", "json", "html", "toml", "dockerfile", "ini")
HARMLESS = ("cd", "source", "export", "cat", "ls")
SHAPE = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "vocab_size": 512}
SHAPES = {
    "my-model": SHAPE,
    "Qwen2.5-0.5B": SHAPE | {"model_type": "qwen2"},
    "Llama-3.2-1B": SHAPE,
    "my-bert": {**SHAPE, "model_type": "bert", "max_position_embeddings": 512},
    "my-t5": {"model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "vocab_size": 512},
}


@dataclass(frozen=True)
class Command:
    """A command line of a page."""

    page: str
    line: str
    needs: str
    """What a machine needs for it that not every machine has; empty: every test may run it."""


def commands() -> Iterator[Command]:
    """Every command of every page."""
    for page in PAGES:
        text = page.read_text()
        indented = "\n".join(INDENTED.findall(FENCE.sub("", text)))
        for kind, block in [*FENCE.findall(text), ("text", indented)]:
            needs = ""
            for line in joined(block):
                if mark := re.fullmatch(r"# needs (.+)", line):
                    needs = mark[1]
                elif command := command_of(kind, line):
                    yield Command(page.name, command, needs)


def joined(block: str) -> list[str]:
    """The lines of a block, those that end in a backslash with the next."""
    return re.sub(r"\\\n\s*", "", block).splitlines()


def command_of(kind: str, line: str) -> str:
    """The command that a line of a block is, or nothing."""
    if kind == "bash":
        return "" if line.lstrip().startswith("#") else line.strip()
    command = re.split(r" {2,}", line)[0]
    return command if kind == "text" and command.startswith("muster ") else ""


ALL = sorted(set(commands()), key=lambda command: (command.line, command.page))
MUSTER = sorted({command.line for command in ALL if command.line.startswith("muster ")})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder with the files that the pages speak of, and their cluster's file; we are in it."""
    made = make_project(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(made)
    return made


def make_project(tmp_path: Path) -> Path:
    """The same folder below `tmp_path`, and a home beside it."""
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
        "test.jsonl": {"prompt": "And you?", "response": "Well."},
        "other.jsonl": {"prompt": "And they?", "response": "Well."},
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
    return tmp_path / "project"


@pytest.mark.parametrize("command", MUSTER)
def test_a_command_plans_or_parses(command: str, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    verb, *words = shlex.split(command, comments=True)[1:]
    assert verb in cli.VERBS
    if verb in ("plan", "run", "submit") and words:
        writes = "--files" in words
        before = sorted(project.rglob("*"))
        assert cli.main(["plan", *words]) == 0, capfd.readouterr().err
        assert capfd.readouterr().out.strip()
        assert writes or sorted(project.rglob("*")) == before
        return
    action = words[:1] if verb == "sweep" and words and not words[0].startswith("-") else []
    assert cli.main([verb, *action, "--help"]) == 0
    known = capfd.readouterr().out
    for word in words:
        assert not word.startswith("-") or re.search(rf"(^|[\s,]){re.escape(word)}\b", known), word


def test_what_a_page_shows_is_said(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = [block for page in PAGES for kind, block in FENCE.findall(page.read_text()) if kind == "console"]
    said = [block for block in shown if block.startswith("$ muster plan ")]
    assert said
    for block in said:
        command, *lines = block.splitlines()
        cli.main(shlex.split(command)[2:])
        captured = capfd.readouterr()
        assert set(lines) <= {line.rstrip() for line in (captured.out + captured.err).splitlines()}


def test_there_are_commands_to_look_at() -> None:
    assert len(MUSTER) > 100, len(MUSTER)
    assert len({command.page for command in ALL}) > 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page: Path) -> None:
    for kind, block in FENCE.findall(page.read_text()):
        assert kind in LANGUAGES, block


def test_other_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in ALL:
        program, *words = shlex.split(command.line, comments=True)
        if program == "make":
            assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words if "=" not in word), command
        elif program == "pip":
            assert words[0] == "install"
            named = re.findall(r"\[(.*?)\]", command.line)
            assert all(extra in extras for extra in ",".join(named).split(",") if extra), command
        elif program == "python":
            module = words[1] if words[0] == "-m" else words[0].removesuffix(".py")
            where = ROOT / module.replace(".", "/")
            assert module == "pytest" or where.with_suffix(".py").is_file() or (where / "__main__.py").is_file(), (
                command
            )
        else:
            assert program == "muster" or command.needs or program in HARMLESS, command


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
