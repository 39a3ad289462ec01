"""A small MNRE folder with auxiliary files in the exact published formats, leaky or honest; made for tests."""

import json
import random

import torch


RELATIONS = {"None": "", "/per/per/peer": "person person", "/per/org/member_of": "person organization"}


def write_mnre(folder, *, num_posts=120, leaky=True, order_leaks=False, seed=0):
    """Write mnre_txt/mnre_train.txt, mre_train_dict.pth and phrase_text_train.json; returns the three paths.

    Leaky: 2 crops for None and 3 or 4 for a relation, gold types after a positive pair's names. Honest: the same crops
    for all lines of an image, as many as chance will, and names only. The order of head and tail says nothing, unless
    it leaks: then a pair stands in the direction of its relation, and else in text order.
    """
    rng = random.Random(seed)
    lines, crops, phrases = [], {}, {}
    for post in range(num_posts):
        tokens = [f"w{rng.randrange(50)}" for _ in range(3)] + [f"Ann{post}", "met", f"Bob{post}", "of", f"Org{post}"]
        of_image = [f"{post}_pred_yolo_crop_{rng.randrange(10**4)}.png" for _ in range(rng.randint(1, 4))]
        for head, tail in rng.sample([(3, 5), (3, 7), (5, 7)], rng.randint(1, 3)):
            relation = rng.choices(list(RELATIONS), weights=[6, 2, 2])[0]
            if order_leaks and relation == "/per/org/member_of":
                head, tail = tail, head
            line = len(lines)
            record = {"token": tokens, "h": {"name": tokens[head], "pos": [head, head + 1]}}
            record |= {"t": {"name": tokens[tail], "pos": [tail, tail + 1]}, "img_id": f"{post}.jpg"}
            lines.append(str(record | {"relation": relation}))
            count = 2 if relation == "None" else rng.choice([3, 4])
            own = [f"{line}_pred_yolo_crop_{rng.randrange(10**4)}.png" for _ in range(count)]
            crops[line] = own if leaky else of_image
            phrases[str(line)] = f"{tokens[head]} {tokens[tail]} {RELATIONS[relation] if leaky else ''}".strip()
    (folder / "mnre_txt").mkdir(parents=True, exist_ok=True)
    paths = [folder / "mnre_txt/mnre_train.txt", folder / "mre_train_dict.pth", folder / "phrase_text_train.json"]
    paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.save(crops, paths[1])
    paths[2].write_text(json.dumps(phrases), encoding="utf-8")
    return paths
