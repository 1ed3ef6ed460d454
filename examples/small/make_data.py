"""Small made-up data, one set a task, so that each recipe beside this file runs in a minute.

    python examples/small/make_data.py examples/small/data

The texts and recordings are random but the same each time; nothing is downloaded.
"""

from __future__ import annotations

import csv
import json
import math
import random
import struct
import sys
import wave
from pathlib import Path

from PIL import Image, ImageDraw

RATE = 8000
"""Samples a second of the recordings."""


def texts(folder: Path, *, count: int = 600) -> None:
    """Write `texts.csv`: sentences on meals, whose mood a few of their words give away."""
    chance = random.Random(1)
    moods = {
        "pleased": ["delicious", "friendly", "warm", "generous", "lovely"],
        "annoyed": ["cold", "rude", "slow", "stale", "noisy"],
    }
    things = ["soup", "waiter", "table", "bread", "music", "dessert", "coffee", "window"]
    fillers = ["today", "again", "as always", "this time", "for lunch", "they say", "indeed"]
    seen: set[str] = set()
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        while len(seen) < count:
            mood = chance.choice(list(moods))
            first, second = chance.sample(things, 2)
            one, other = chance.sample(moods[mood], 2)
            text = f"The {first} was {one} {chance.choice(fillers)}, and the {second} {other}."
            if text not in seen:
                seen.add(text)
                writer.writerow([text, mood])


def recordings(folder: Path, *, each: int = 40) -> None:
    """Write `recordings/LABEL/*.wav`: tones that rise, fall, or stay, over some noise."""
    chance = random.Random(2)
    for label, slope in (("rising", 1.0), ("falling", -1.0), ("steady", 0.0)):
        place = folder / "recordings" / label
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            seconds = chance.uniform(0.3, 0.6)
            low, high = chance.uniform(300, 600), chance.uniform(900, 1500)
            begin = {1.0: low, -1.0: high, 0.0: (low + high) / 2}[slope]
            turn, phase, values = slope * (high - low), 0.0, []
            for at in range(int(seconds * RATE)):
                pitch = begin + turn * at / (seconds * RATE)
                phase += 2 * math.pi * pitch / RATE
                values.append(int(8000 * math.sin(phase) + chance.gauss(0, 800)))
            _write_wav(place / f"{number:02d}.wav", values)


def dials(folder: Path, *, count: int = 400, side: int = 16) -> None:
    """Write `dials.csv` and the pictures of dials that it names; a dial's hand shows 0 to 10."""
    chance = random.Random(3)
    (folder / "dials").mkdir(exist_ok=True)
    with (folder / "dials.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "reading"])
        for number in range(count):
            reading = round(chance.uniform(0, 10), 2)
            angle = math.pi * (1 - reading / 10)  # From the left over the top to the right.
            pixels = [chance.randint(0, 40) for _ in range(side * side)]
            for step in range(4 * side):
                along = step / (4 * side) * (side / 2 - 1)
                x = round(side / 2 - 0.5 + along * math.cos(angle))
                y = round(side - 2 - along * math.sin(angle))
                pixels[y * side + x] = 220 + chance.randint(0, 35)
            image = Image.new("L", (side, side))
            image.putdata(pixels)
            image.save(folder / "dials" / f"{number:03d}.png")
            writer.writerow([f"dials/{number:03d}.png", reading])


def sample_data(folder: Path, *, count: int = 150) -> None:
    """Write `stories/*.txt`: short tales of a few sentences each, to learn to write on."""
    chance = random.Random(4)
    place = folder / "stories"
    place.mkdir(exist_ok=True)
    who, where = ["The fox", "A crow", "The old king", "My aunt"], ["the hill", "a lake", "the inn"]
    did, found = ["walked to", "ran to", "slept by"], ["a ring", "some bread", "no one", "a lamp"]
    for number in range(count):
        lines = []
        for _ in range(chance.randint(4, 9)):
            first = f"{chance.choice(who)} {chance.choice(did)} {chance.choice(where)}"
            lines.append(f"{first} and found {chance.choice(found)}.")
        (place / f"{number:03d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pairs(folder: Path, *, count: int = 2500) -> None:
    """Write `orders.en` and `orders.xx`: orders in English, and in a language that turns them."""
    chance = random.Random(5)
    words = {
        "two": "dua", "three": "tiga", "red": "merah", "green": "hijau", "big": "besar",
        "apples": "apel", "books": "buku", "lamps": "lampu", "chairs": "kursi",
        "bring": "bawa", "buy": "beli", "send": "kirim", "today": "hari ini", "now": "sekarang",
    }  # fmt: skip
    english, other = [], []
    for _ in range(count):
        verb, when = chance.choice(["bring", "buy", "send"]), chance.choice(["today", "now"])
        thing = chance.choice(["apples", "books", "lamps", "chairs"])
        kind, many = chance.choice(["red", "green", "big"]), chance.choice(["two", "three"])
        also = chance.choice(["apples", "books", "lamps", "chairs"])
        english.append(f"{verb} {many} {kind} {thing} and {also} {when}")
        turned = [when, verb, many, thing, kind]
        other.append(" ".join(words[word] for word in turned) + f" dan {words[also]}")
    both = sorted(set(zip(english, other, strict=True)))
    chance.shuffle(both)
    for suffix, side in ((".en", 0), (".xx", 1)):
        text = "\n".join(pair[side] for pair in both) + "\n"
        (folder / f"orders{suffix}").write_text(text, encoding="utf-8")


def reports(folder: Path, *, count: int = 1500) -> None:
    """Write `reports.jsonl`: reports of which one sentence is the news, and that news."""
    chance = random.Random(6)
    places, things = ["harbour", "school", "market", "bridge"], ["opened", "closed", "repaired"]
    fillers = ["it rained", "people talked", "the sun shone", "nobody slept", "birds sang"]
    with (folder / "reports.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(count):
            place, what = chance.choice(places), chance.choice(things)
            lines = [f"{chance.choice(fillers)} on day {number % 97 + chance.randint(1, 9)} ."]
            lines.append(f"we report that the {place} was {what} by the town .")
            lines.insert(chance.randint(0, 1), f"then {chance.choice(fillers)} for long .")
            row = {"text": " ".join(lines), "summary": f"the {place} was {what}"}
            stream.write(json.dumps(row) + "\n")


PITCHES = dict(zip(" abcde", (260, 400, 600, 900, 1350, 2000), strict=True))
"""The pitch of each letter that is whistled, and of the hum between two words."""


def whistles(folder: Path, *, count: int = 400) -> None:
    """Write `whistles/NAME.wav` with `NAME.txt`: two words, a tone each letter, over some noise.

    What parts the words is heard as well: a silence there would be hard to tell from the silence
    around them, and what is learnt would hang on the order in which a processor adds up.
    """
    chance = random.Random(7)
    place = folder / "whistles"
    place.mkdir(exist_ok=True)
    for number in range(count):
        words = ["".join(chance.choices("abcde", k=chance.randint(2, 3))) for _ in range(2)]
        pace, shift, values = chance.uniform(0.8, 1.2), chance.uniform(0.95, 1.05), []
        for sign in " ".join(words):
            for at in range(int(pace * 0.07 * RATE)):
                tone = 8000 * math.sin(2 * math.pi * shift * PITCHES[sign] * at / RATE)
                values.append(int(tone + chance.gauss(0, 500)))
            values += [int(chance.gauss(0, 500)) for _ in range(int(0.03 * RATE))]
        _write_wav(place / f"{number:03d}.wav", values)
        (place / f"{number:03d}.txt").write_text(" ".join(words), encoding="utf-8")


def shapes(folder: Path, *, count: int = 320, side: int = 64) -> None:
    """Write `shapes/NAME.png` with `NAME.xml`: up to three bright squares and discs on grey."""
    chance = random.Random(8)
    place = folder / "shapes"
    place.mkdir(exist_ok=True)
    for number in range(count):
        pixels = [chance.randint(60, 120) for _ in range(side * side)]
        image = Image.new("L", (side, side))
        image.putdata(pixels)
        draw, taken, objects = ImageDraw.Draw(image), [], ""
        for _ in range(chance.randint(1, 3)):
            size = chance.randint(12, 24)
            x, y = (chance.randint(0, side - size) for _ in range(2))
            if any(abs(x - a) < max(size, s) and abs(y - b) < max(size, s) for a, b, s in taken):
                continue  # Nothing stands in front of another thing.
            taken.append((x, y, size))
            label, fill = chance.choice(["square", "disc"]), chance.randint(170, 255)
            shape = draw.rectangle if label == "square" else draw.ellipse
            shape((x, y, x + size - 1, y + size - 1), fill=fill)
            # VOC counts pixels from 1.
            edges = {"xmin": x + 1, "ymin": y + 1, "xmax": x + size, "ymax": y + size}
            box = "".join(f"<{name}>{at}</{name}>" for name, at in edges.items())
            objects += f"<object><name>{label}</name><bndbox>{box}</bndbox></object>"
        size = f"<size><width>{side}</width><height>{side}</height><depth>1</depth></size>"
        image.save(place / f"{number:03d}.png")
        text = f"<annotation>{size}{objects}</annotation>\n"
        (place / f"{number:03d}.xml").write_text(text, encoding="utf-8")


def requests(folder: Path, *, count: int = 600) -> None:
    """Write `requests.jsonl`: wishes of guests, with all that they are about, perhaps nothing."""
    chance = random.Random(9)
    topics = {
        "room": ["the heating hums", "the bed creaks", "the lamp flickers"],
        "food": ["the soup is cold", "we'd like breakfast", "the bread is stale"],
        "bill": ["I paid twice", "the price is wrong", "send me the receipt"],
    }
    greetings = ["Good morning", "Hello", "Dear host", "Good evening"]
    endings = ["Many thanks", "Kind regards", "Yours", "See you soon", "All the best"]
    seen: set[str] = set()
    with (folder / "requests.jsonl").open("w", encoding="utf-8") as stream:
        while len(seen) < count:
            labels = [topic for topic in topics if chance.random() < 0.4]
            told = [chance.choice(topics[topic]) for topic in labels]
            chance.shuffle(told)
            said = " and ".join(told) or "we enjoyed our stay"
            day = chance.randint(1, 400)
            text = f"{chance.choice(greetings)}, on day {day} {said}. {chance.choice(endings)}."
            if text not in seen:
                seen.add(text)
                stream.write(json.dumps({"text": text, "labels": labels}) + "\n")


def _write_wav(path: Path, values: list[int]) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE)
        stream.writeframes(struct.pack(f"<{len(values)}h", *values))


def main() -> None:
    """Write all sets into the folder that is named."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    folder.mkdir(parents=True, exist_ok=True)
    texts(folder)
    recordings(folder)
    dials(folder)
    sample_data(folder)
    pairs(folder)
    reports(folder)
    whistles(folder)
    shapes(folder)
    requests(folder)
    print(folder)


if __name__ == "__main__":
    main()
