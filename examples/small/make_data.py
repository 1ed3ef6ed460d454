"""Small made-up data, one set a task, so that each recipe beside this file runs in a minute.

    python examples/small/make_data.py examples/small/data

The texts and sounds are random but the same each time; nothing is downloaded.
"""

from __future__ import annotations

import csv
import math
import random
import struct
import sys
import wave
from pathlib import Path

from PIL import Image

RATE = 8000
"""Samples a second of the sounds."""


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


def sounds(folder: Path, *, each: int = 40) -> None:
    """Write `sounds/LABEL/*.wav`: tones that rise, fall, or stay, over some noise."""
    chance = random.Random(2)
    for label, slope in (("rising", 1.0), ("falling", -1.0), ("steady", 0.0)):
        place = folder / "sounds" / label
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
    sounds(folder)
    dials(folder)
    print(folder)


if __name__ == "__main__":
    main()
