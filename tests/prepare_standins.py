"""Stand-ins for the parts of the preparation that other branches bring, used only where these are not there yet."""

import dataclasses
import importlib.util
import io
import sys
import types

from PIL import Image, ImageOps


__all__ = ["install"]


def load_image(source, *, max_side=None):
    image = Image.open(io.BytesIO(source))
    try:
        image.load()
    except OSError as error:
        raise ValueError(f"a damaged or truncated image ({error})") from error
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if max_side is not None:
        image.thumbnail((max_side, max_side))
    return image


def image_size(source):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(source))).size


@dataclasses.dataclass(frozen=True)
class PairSelection:
    text_phrases: list
    image_phrases: list
    objects: list
    reasons: dict


def select_posts(selector, posts, *, progress):
    for post in posts:
        yield from selector.select_window([post])


def apply_selections(post, selections):
    phrases = post["image_phrases"]
    pairs, reasons = [], []
    for number, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
        chosen = [phrases.index(phrase) for phrase in selection.image_phrases]
        spans = [list(span) for span in selection.text_phrases]
        pairs.append(pair | {"text_phrases": spans, "image_phrases": chosen, "objects": selection.objects})
        reasons += [{"pair": number, "field": field, "reason": text} for field, text in selection.reasons.items()]
    return post | {"pairs": pairs}, reasons


@dataclasses.dataclass(frozen=True)
class Detection:
    box: tuple
    score: float | None
    label: str


def contact_sheet(entries, path, *, columns, side):
    path.parent.mkdir(parents=True, exist_ok=True)
    thumbnails = [image.convert("RGB").resize((side, side)) for image, *_ in entries]
    sheet = Image.new("RGB", (side * len(thumbnails), side))
    for index, thumbnail in enumerate(thumbnails):
        sheet.paste(thumbnail, (index * side, 0))
    sheet.save(path)


def leak_status(source):
    return []


STANDINS = {
    "modeling_vmhan.images": (load_image, image_size),
    "datasets_scripts.selection": (PairSelection, select_posts, apply_selections),
    "datasets_scripts.detection": (Detection,),
    "datasets_scripts.detection_drawing": (contact_sheet,),
    "datasets_scripts.leaks": (leak_status,),
}


def install():
    for name, parts in STANDINS.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update({part.__name__: part for part in parts})
            package, _, attribute = name.rpartition(".")
            setattr(sys.modules[package], attribute, sys.modules[name])
            if name.endswith("leaks"):
                sys.modules[name].mark_card = None
