"""Lines of MORE in its exact format; the fixture `more_folder` is a whole archive."""

LABELS = ["none", "/per/per/peer", "/per/org/member_of"]
TOKENS = ["Messi", "plays", "for", "Barcelona"]


def fact(**changes):
    """One line of MORE."""
    mentions = {"h": {"name": "Messi", "pos": [0, 1]}, "t": {"name": "[OBJ1]", "box": (0.5, 0.5, 0.5, 1.0)}}
    return str({"token": TOKENS, **mentions, "img_id": "a.jpg", "relation": "/per/org/member_of", **changes})


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
