"""Small generated data sets for the recipes, one for each shape of data; `train.data.demo` writes them.

Each has a rule that a small model can learn, and validation rows that are not in the training rows.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]

CITIES = ["Lyon", "Porto", "Bergen", "Turin", "Ghent", "Malaga", "Leeds", "Graz", "Lodz", "Varna", "Tartu", "Split"]
SKIES = ("sunny", "cloudy", "foggy", "rainy", "windy", "stormy", "snowy", "clear")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TOPICS = {
    "billing": ("invoice", "refund", "payment", "receipt", "price", "charge"),
    "delivery": ("parcel", "courier", "address", "tracking number", "package", "shipment"),
    "account": ("password", "login", "profile", "email address", "username", "settings"),
    "repair": ("screen", "battery", "warranty", "cable", "speaker", "keyboard"),
}
REQUESTS = (
    "Hello, I have a question about my {}.",
    "There is something wrong with the {}.",
    "Could you please look at the {} once more?",
    "I wrote two weeks ago because of the {}, and nobody answered.",
    "What do I have to do about my {}?",
    "My {} has been a problem since {day}.",
    "Good morning, who can help me with a {}?",
)

ASPECTS = {
    "food": ("The soup was cold.", "We liked the bread.", "The fish tasted fresh.", "Dessert was far too sweet."),
    "service": ("The waiter was kind.", "Nobody came to our table.", "They forgot our order.", "The staff smiled."),
    "price": ("It was cheap.", "We paid too much.", "The bill was fair.", "Every dish costs a fortune."),
    "room": ("The tables are small.", "Music was loud.", "It is a bright place.", "The chairs are comfortable."),
}

ORDINARY = ("We came on {day}.", "It is near the station in {city}.", "There were four of us.", "It was {sky} outside.")
POINTS = {"excellent": 2.0, "good": 1.0, "plain": 0.0, "poor": -1.0, "terrible": -2.0}
THINGS = ("breakfast", "pool", "bed", "view", "garden", "bathroom", "reception", "bar")


def weather(draw: random.Random) -> Row:
    """A report of several sentences and its summary."""
    city, day, first, second = draw.choice(CITIES), draw.choice(DAYS), *draw.sample(SKIES, 2)
    low = draw.randint(0, 20)
    high = low + draw.randint(3, 12)
    sentences = [
        f"The morning was {first}.",
        f"Later it became {second}.",
        f"The night before had been {draw.choice(SKIES)}.",
        f"It was {low} degrees at first and {high} degrees in the afternoon.",
    ]
    return {
        "document": f"This is the report for {city} on {day}. {' '.join(sentences)}",
        "summary": f"{city}: {first}, then {second}, up to {high} degrees.",
    }


def ticket(draw: random.Random) -> Row:
    """A request, and the team it is for."""
    label = draw.choice(list(TOPICS))
    text = draw.choice(REQUESTS).replace("{day}", draw.choice(DAYS))
    return {"text": f"{text.format(draw.choice(TOPICS[label]))} Order {draw.randint(1000, 9999)}.", "label": label}


def review(draw: random.Random) -> Row:
    """A review, and the several things it speaks of."""
    named = draw.sample(list(ASPECTS), draw.randint(1, 3))
    sentences = [draw.choice(ASPECTS[name]) for name in named]
    sentences += [_filled(sentence, draw) for sentence in draw.sample(ORDINARY, 2)]
    draw.shuffle(sentences)
    return {"text": " ".join(sentences), "label": sorted(named)}


def rating(draw: random.Random) -> Row:
    """A judgement of four things, and its number: the mean of what the words stand for."""
    words = draw.choices(list(POINTS), k=4)
    parts = [f"the {thing} was {word}" for thing, word in zip(draw.sample(THINGS, 4), words, strict=True)]
    return {"text": f"In {draw.choice(CITIES)} {', '.join(parts)}.", "label": sum(POINTS[word] for word in words) / 4}


def diary(draw: random.Random) -> Row:
    """Plain text in a manner of its own."""
    entries = []
    for day in draw.sample(DAYS, 3):
        sky, city, thing = draw.choice(SKIES), draw.choice(CITIES), draw.choice(THINGS)
        entries.append(f"{day}. Woke in {city}, found it {sky}, thought of the {thing}, wrote nothing more.")
    return {"text": "\n".join(entries)}


def chat(greeting: Row, draw: random.Random) -> Row:
    """A greeting as OpenAI's messages, with a second turn."""
    messages = [
        {"role": "system", "content": "You greet people in their language."},
        {"role": "user", "content": greeting["prompt"]},
        {"role": "assistant", "content": greeting["response"]},
    ]
    if draw.random() < 0.5:
        messages += [
            {"role": "user", "content": "Once more, please."},
            {"role": "assistant", "content": greeting["response"]},
        ]
    return {"messages": messages}


def sharegpt(greeting: Row, draw: random.Random) -> Row:
    """A greeting as ShareGPT has conversations."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = chat(greeting, draw)["messages"]
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]}


def alpaca(greeting: Row, draw: random.Random) -> Row:
    """An instruction, sometimes with an input, and its output."""
    if draw.random() < 0.5:
        return {"instruction": greeting["prompt"], "input": "", "output": greeting["response"]}
    return {"instruction": "Do what is asked.", "input": greeting["prompt"], "output": greeting["response"]}


DRAWN: dict[str, tuple[Callable[[random.Random], Row], int, int]] = {
    "summaries": (weather, 300, 60),
    "labels": (ticket, 600, 120),
    "several_labels": (review, 480, 96),
    "numbers": (rating, 600, 120),
    "text": (diary, 360, 60),
}
"""Name → what draws a row, training rows, validation rows."""

CONVERTED: dict[str, tuple[Callable[[Row, random.Random], Row], int, int]] = {
    "chat": (chat, 240, 40),
    "sharegpt": (sharegpt, 200, 40),
    "alpaca": (alpaca, 480, 80),
}
"""Name → what makes a row of a greeting, training rows, validation rows."""


def demo_sets(greetings: dict[str, list[Row]], seed: int) -> Iterator[tuple[str, list[Row]]]:
    """`<name>_train` and `<name>_validation` with their rows."""
    for name, (make, training, validation) in DRAWN.items():
        draw = random.Random(f"{seed} {name}")
        distinct = {str(row): row for row in (make(draw) for _ in itertools.repeat(None, 4 * training))}
        rows = list(distinct.values())
        yield f"{name}_train", rows[:training]
        yield f"{name}_validation", rows[training : training + validation]
    for name, (convert, training, validation) in CONVERTED.items():
        draw = random.Random(f"{seed} {name}")
        yield f"{name}_train", [convert(row, draw) for row in greetings["train"][:training]]
        yield f"{name}_validation", [convert(row, draw) for row in greetings["validation"][:validation]]


def _filled(sentence: str, draw: random.Random) -> str:
    return sentence.format(day=draw.choice(DAYS), city=draw.choice(CITIES), sky=draw.choice(SKIES))
