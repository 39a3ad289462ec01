"""`vmhan prepare --dry_run`: what it counts, and that nothing is asked or written."""

import dataclasses
import re
from pathlib import Path

import pytest
from chat_server import ChatServer
from prepare_fakes import make_fakes, write_posts

from datasets_scripts.nodes.selection import make_selector
from datasets_scripts.prepare import workers
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import dry_run, prepare
from datasets_scripts.prepare.plan import Tools


PHRASES, OBJECTS = '{"phrases": ["met"]}', '{"objects": [1]}'


@pytest.fixture
def arguments(tmp_path):
    """Of a preparation of four posts: three show two images, the image of one is not there."""
    write_posts(tmp_path / "mine", images=2, train=[0, 1, 0, 9])
    given = {"source": "jsonl", "data_dir": str(tmp_path / "mine"), "output_dir": str(tmp_path / "out")}
    tools = {"detector": "blobs", "features": "colours", "on_bad_image": "skip_post", "figures": False}
    return PrepareArguments(**given, **tools)


@pytest.fixture
def tools(arguments, tmp_path, monkeypatch):
    """Fakes, and a selector that asks a server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fakes = make_fakes(arguments, None)
    with ChatServer(lambda number, body: OBJECTS if "Select from" in str(body) else PHRASES) as server:
        selector = make_selector(f"openai:text,image@{server.url}", cache_dir=tmp_path / "answers")
        yield Tools(fakes.detector, selector, fakes.extractor)


@pytest.fixture
def count(arguments, tools, tmp_path):
    """`count(**changes)`: the numbers of the table; nothing is asked or written."""

    def files():
        return sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))

    def counted(**changes):
        before = files()
        table = dry_run(dataclasses.replace(arguments, **changes), make_tools=lambda *_: tools)
        assert files() == before
        rows = re.findall(r"^(\w[\w: ]*?) {2,}(?:at most |about )?([\d,]+)(.*)", table, flags=re.M)
        assert all("at 1 s each" in rest for name, _, rest in rows if name.startswith("requests"))
        return {name: int(number) for name, number, _ in rows}

    return counted


def requests(text, image, objects):
    numbers = {"text phrases": text, "image phrases": image, "objects": objects}
    return {f"requests: {name}": number for name, number in numbers.items()}


def test_images_regions_and_requests_are_counted(count):
    """Two posts about one image ask the same of it, and each of two blobs an image is a region."""
    assert count() == {"posts": 4, "images": 2, "regions": 6, **requests(3, 2, 2)}


def test_what_is_done_is_not_counted(arguments, tools, count, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # between the images and the posts

        def interrupted(*_):
            raise KeyboardInterrupt

        patch.setattr(workers, "write_post_shard", interrupted)
        prepare(arguments, make_tools=lambda *_: tools)
    assert count() == {"posts": 4, **requests(3, 2, 2)}
    prepare(arguments, make_tools=lambda *_: tools)
    assert dry_run(arguments, make_tools=lambda *_: tools) == f"{arguments.output_dir} is finished"
    other = count(output_dir=str(Path(arguments.output_dir).with_name("other")))
    assert other == {"posts": 4, "images": 2, "regions": 6, **requests(0, 0, 2)}  # answers are kept, boxes are not
