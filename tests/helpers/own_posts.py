"""Made posts of one's own: sentences out of templates with names, four relations and None, and a small picture each.

python tests/helpers/own_posts.py FOLDER [COUNT]     writes FOLDER/my_posts.jsonl and FOLDER/pictures/
"""

import json
import random
import sys
from pathlib import Path

from PIL import Image


FIRST = "Ann Bob Cem Dora Emil Fay Gus Hana Ivo June Kofi Lena Mo Nora Otto Pia Ravi Sara Tom Uma".split()
LAST = "Adams Berg Costa Diaz Endo Falk Gray Holm Ito Jansen Kaya Lund Moser Novak Okoye Patel".split()
ORGANISATIONS = "Acme|Nordbank|the Blue Hats|Radio Nine|FC Harbour|Kestrel Labs|the City Museum|Orbit Foods".split("|")
PLACES = "Oslo|Lima|Nairobi|Kyoto|Porto|Graz|Leeds|Tampa|New Haven|Port Louis".split("|")
TEMPLATES = {  # of a relation: sentences, in which a and b are head and tail
    "works_for": ["{a} joins {b} as an editor", "{b} hires {a}", "first day at {b} for {a}", "{a}, chef at {b}"],
    "lives_in": ["{a} has moved to {b}", "{a} shows us her flat in {b}", "at home in {b}: {a}", "{a} of {b} says hi"],
    "peer": ["{a} and {b} are old friends", "{a} meets her friend {b}", "{b} wishes {a}, his best mate, luck"],
    "based_in": ["{a} opens its head office in {b}", "{a} has its seat in {b}", "{b} is the home of {a}"],
    "None": ["{a} talks about {b}", "{b} was on the news, says {a}", "no word from {a} on {b}", "{a} once saw {b}"],
}
TAILS = {"works_for": ORGANISATIONS, "lives_in": PLACES, "based_in": PLACES}
ENDS = ["", " #monday", " , what a day", " ( photo )", " !"]


def made_posts(count, seed=0):
    """Posts of the dialect, each with one to three pairs; every image is named by one post."""
    draw = random.Random(seed)

    def person():
        return f"{draw.choice(FIRST)} {draw.choice(LAST)}"

    posts = []
    for number in range(count):
        parts, pairs, names = [], [], set()
        for _ in range(draw.randint(1, 3)):
            relation = draw.choice(list(TEMPLATES))
            head = draw.choice(ORGANISATIONS) if relation == "based_in" else person()
            tail = draw.choice(TAILS.get(relation) or [person(), *PLACES, *ORGANISATIONS])
            if {head, tail} & names or head == tail:
                continue
            names |= {head, tail}
            parts.append(draw.choice(TEMPLATES[relation]).format(a=head, b=tail))
            pairs.append({"head": head, "tail": tail, "relation": relation})
        text = " ; ".join(parts) + draw.choice(ENDS)
        posts.append({"id": f"post-{number}", "text": text, "image": f"{number}.png", "pairs": pairs})
    return posts


def write_posts(folder, count, *, seed=0, size=64):
    """`my_posts.jsonl` and the images in `pictures/`; returns the posts."""
    posts = made_posts(count, seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for number, post in enumerate(posts):
        Image.effect_noise((size, size), 5 + number % 90).convert("RGB").save(folder / "pictures" / post["image"])
    lines = "".join(json.dumps(post) + "\n" for post in posts)
    (folder / "my_posts.jsonl").write_text(lines, encoding="utf-8")
    return posts


if __name__ == "__main__":
    write_posts(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200, size=128)
