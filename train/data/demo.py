"""The demo's data: greet somebody in a language. `python -m train.data.demo conf/data/demo` writes all bundled files.

Every greeting, language and name of the validation rows is in the training rows, but never the three together, so a
model that answers them has learned the rule and not the rows.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

from train.data.demo_sets import demo_sets

SEED = 7
VALIDATION_ROWS = 160

NAMES = """
Anna Ben Carla David Elena Felix Greta Hugo Ines Jonas Klara Leo Maria Nils Olga Paul Rosa Simon Tara Viktor Amir Bruno
Chen Dara Emil Fatima Goran Hana Ivan Julia Kofi Lina Marko Noor Otto Priya
"""

GREETINGS = {
    "say good morning to": {
        "French": "Bonjour {} !",
        "German": "Guten Morgen, {}!",
        "Spanish": "¡Buenos días, {}!",
        "Italian": "Buongiorno, {}!",
        "Dutch": "Goedemorgen, {}!",
        "Portuguese": "Bom dia, {}!",
        "Swedish": "God morgon, {}!",
        "Polish": "Dzień dobry, {}!",
    },
    "say good evening to": {
        "French": "Bonsoir {} !",
        "German": "Guten Abend, {}!",
        "Spanish": "¡Buenas tardes, {}!",
        "Italian": "Buonasera, {}!",
        "Dutch": "Goedenavond, {}!",
        "Portuguese": "Boa noite, {}!",
        "Swedish": "God kväll, {}!",
        "Polish": "Dobry wieczór, {}!",
    },
    "thank": {
        "French": "Merci {} !",
        "German": "Danke, {}!",
        "Spanish": "¡Gracias, {}!",
        "Italian": "Grazie, {}!",
        "Dutch": "Dank je, {}!",
        "Portuguese": "Obrigado, {}!",
        "Swedish": "Tack, {}!",
        "Polish": "Dziękuję, {}!",
    },
    "say goodbye to": {
        "French": "Au revoir {} !",
        "German": "Auf Wiedersehen, {}!",
        "Spanish": "¡Adiós, {}!",
        "Italian": "Arrivederci, {}!",
        "Dutch": "Tot ziens, {}!",
        "Portuguese": "Tchau, {}!",
        "Swedish": "Hej då, {}!",
        "Polish": "Do widzenia, {}!",
    },
}

WORDINGS = ("{act} {name} in {language}.", "In {language}, {act} {name}.", "Please {act} {name} in {language}.")


def demo_rows() -> dict[str, list[dict[str, str]]]:
    """Rows of `train` and `validation`: prompt and response; the same ones every time."""
    draw = random.Random(SEED)
    rows = []
    for act, name in itertools.product(GREETINGS, NAMES.split()):
        for language, greeting in GREETINGS[act].items():
            prompt = draw.choice(WORDINGS).format(act=act, name=name, language=language)
            rows.append({"prompt": prompt[0].upper() + prompt[1:], "response": greeting.format(name)})
    draw.shuffle(rows)
    return {"train": rows[VALIDATION_ROWS:], "validation": rows[:VALIDATION_ROWS]}


def encode_rows(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def bundled() -> dict[str, bytes]:
    """The bundled files by name: the demo's own and one pair for each recipe's shape of data."""
    greetings = demo_rows()
    named = {**greetings, **dict(demo_sets(greetings, SEED))}
    return {f"{name}.jsonl": encode_rows(rows) for name, rows in named.items()}


def write_demo(folder: Path) -> None:
    """Write the bundled files into a folder."""
    for name, content in bundled().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write_demo(Path(sys.argv[1]))
