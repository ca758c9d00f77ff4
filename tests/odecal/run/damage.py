"""Ways in which bytes are damaged."""

import random

NAMES = ("flipped", "cut", "zeroed", "swapped", "inserted", "lost", "noise")


def damaged(content, chance):
    """The bytes of a file, damaged in one way at random; and in which.

    Args:
        content: the bytes.
        chance: a `random.Random`.
    """
    name = chance.choice(NAMES)
    size = len(content)
    data = bytearray(content)
    at = chance.randrange(size)
    width = min(size - at, chance.choice([1, 16, 512, 4096]))
    if name == "flipped":
        for _ in range(chance.choice([1, 1, 1, 5, 50])):
            data[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif name == "cut":
        del data[at:]
    elif name == "zeroed":
        data[at : at + width] = bytes(width)
    elif name == "swapped":
        other = chance.randrange(size - width + 1)
        data[at : at + width], data[other : other + width] = (
            data[other : other + width],
            data[at : at + width],
        )
    elif name == "inserted":
        data[at:at] = chance.randbytes(width)
    elif name == "lost":
        del data[at : at + width]
    else:
        data[at : at + width] = chance.randbytes(width)
    return bytes(data[: size * 2]), name


def damages(content, count, seed):
    """Many damaged copies of the bytes of a file, each different from it."""
    chance = random.Random(seed)
    made = 0
    while made < count:
        data, name = damaged(content, chance)
        if data != content:
            made += 1
            yield data, name
