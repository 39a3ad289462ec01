"""The Space's page (model_cards/space): its functions, its server without the package, and its looks in a browser."""

import base64
import html
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
from chromium import requested_urls, start_chromium
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement
from paths import ROOT
from PIL import Image
from stranger import PACKAGES, link_distributions


gr = pytest.importorskip("gradio", reason="needs gradio: pip install 'vmhan[app]'")

SPACE = ROOT / "model_cards" / "space"
TEXT = "Ann met Bob in Paris with the band"


@pytest.fixture(scope="module")
def space():
    """app.py, found as Gradio finds it: beside its own siblings."""
    sys.path.insert(0, str(SPACE))
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SPACE))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    Image.effect_noise((64, 48), 90).convert("RGB").save(path)
    return str(path)


def rows(page):
    """(class, relation, probability in per cent) of each row."""
    found = re.findall(r"<tr class='(.*?)'><td>(.*?)</td>.*?<td>([\d.]+)%</td></tr>", page)
    return [(classes, html.unescape(relation), float(score)) for classes, relation, score in found]


def captions(figures):
    found = re.findall(r"<figcaption>What carried the answer for (.*?)<", figures)
    return [html.unescape(caption) for caption in found]


def test_the_page_shows_the_pipelines_answer(space, pipe):
    page, pictures = space.answer(pipe, TEXT, "Ann", "Paris", "", 0.0)
    expected = pipe({"text": TEXT, "head": "Ann", "tail": "Paris"})
    data = re.search(r"src='data:image/png;base64,(.*?)'", pictures).group(1)
    assert captions(pictures) == ["Ann → Paris"] and Image.open(io.BytesIO(base64.b64decode(data))).width == 1100
    shown = [(relation.removesuffix(" (no relation)"), score) for _, relation, score in rows(page)]
    assert shown == [(entry["relation"], round(100 * entry["score"], 1)) for entry in expected["top_k"]]
    assert [relation for _, relation, _ in rows(page) if relation.endswith("(no relation)")] == ["None (no relation)"]
    assert f"entropy {expected['uncertainty']['entropy']:.2f} nats" in page and "1.39 (all 4 labels" in page


def test_the_none_relation_is_shown_even_where_it_ranks_low(space, make_pipe, make_model):
    names = ["none", *(f"relation {i}" for i in range(30))]
    pipe = make_pipe(model=make_model(id2label=dict(enumerate(names)), none_label="none"))
    pages = [space.answer(pipe, TEXT, "Ann", tail, "", 0.0)[0] for tail in ("Bob", "Paris", "band")]
    for page in pages:
        assert [relation for classes, relation, _ in rows(page) if "none" in classes] == ["none (no relation)"]
    assert any(len(rows(page)) == 6 for page in pages)


def test_several_pairs_and_spans(space, pipe):
    page, pictures = space.answer(pipe, TEXT, "Ann", "(15, 20)", "Bob | the band\n\n Paris|Ann ", 0.0)
    assert captions(pictures) == ["Ann → Paris", "Bob → the band", "Paris → Ann"]
    assert page.startswith(space.answer(pipe, TEXT, "Ann", "Paris", "", 0.0)[0].split("<table>")[0])
    boxed = [{"head": "Ann", "tail": (1, 2, 3, 4)}, {"head": "a", "tail": "b"}]
    assert space.read_pairs("Ann", "(1, 2,3, 4)", "a|b\n") == boxed


def test_a_box_is_a_tail_and_the_image_reaches_the_model(space, seeing, picture):
    page, pictures = space.answer(seeing, TEXT, "Ann", "(1, 2, 30, 40)", "Ann | Paris", 0.0, picture)
    assert captions(pictures) == ["Ann → [1.0, 2.0, 30.0, 40.0]", "Ann → Paris"]
    assert rows(space.answer(seeing, TEXT, "Ann", "Paris", "", 0.0)[0]) != rows(page.split("<section>")[2])


def test_abstention_is_said_and_without_attention_there_is_no_picture(space, make_pipe):
    page, pictures = space.answer(make_pipe("gcn"), TEXT, "Ann", "Paris", "", 1.0)
    assert len(rows(page)) == 4 and pictures == "" and "No answer:" in page and "less than 100%" in page


def test_words_of_the_post_are_not_html(space, pipe):
    page, _ = space.answer(pipe, "Ann saw <img src=x> in Paris", "<img src=x>", "Paris", "", 0.0)
    assert "<img" not in page and "&lt;img src=x&gt; → Paris" in page


@pytest.mark.parametrize(
    "given, said",
    [
        ((TEXT, "Zoe", "Paris", ""), "'Zoe'"),
        ((TEXT, "", "Paris", ""), "blank"),
        ((None, "Ann", "Paris", None), "'Ann' .* ''"),
        ((TEXT, "(90, 99)", "Paris", ""), "span"),
        (("Ann <b>", "Zoe", "Ann", ""), "'Ann &lt;b&gt;'"),
        (("Ann " * 2000, "Ann", "Paris", ""), "5000 .* 8000"),
        ((TEXT, "Ann", "Paris", "Bob & Paris"), "'Bob &amp; Paris'"),
        ((TEXT, "Ann", "Paris", "Ann | Bob\n" * 20), "20 .* 21"),
        ((TEXT, "Ann", "Paris", "", "broken.png"), "broken.png"),
    ],
)
def test_what_cannot_be_taken_is_said(space, seeing, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n of nothing")
    page, pictures = space.answer(seeing, *given[:4], 0.0, *given[4:])
    assert page.startswith("<div class='error' role='alert'>") and pictures == "" and rows(page) == []
    assert re.search(said, page.replace("&#x27;", "'"))


def test_the_page_has_a_place_for_an_image_only_where_one_is_taken(space, seeing, pipe):
    for given, takes in ((seeing, True), (pipe, False)):
        demo = space.build_demo(given)
        kinds = [block.get_block_name() for block in demo.blocks.values()]
        assert ("image" in kinds) == takes and demo.analytics_enabled is False


@pytest.fixture(scope="module")
def url(seeing, tmp_path_factory):
    """Of `python app.py` in a copy of the Space, by a Python that has the Space's requirements and nothing of ours."""
    folder = tmp_path_factory.mktemp("server")
    seeing.save_pretrained(folder / "model")
    shutil.copytree(SPACE, folder / "space")
    site = link_distributions(tmp_path_factory.mktemp("site-packages"), [*PACKAGES, "gradio"])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
    own = {"PYTHONPATH": str(site), "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    own |= {"VMHAN_MODEL": str(folder / "model"), "GRADIO_SERVER_NAME": "127.0.0.1"}
    own |= {"GRADIO_SERVER_PORT": port, "GRADIO_TEMP_DIR": str(folder / "uploads")}
    with open(folder / "log", "w+") as log:
        command = [sys.executable, "-S", "app.py"]  # -S: without this environment's packages
        process = subprocess.Popen(command, cwd=folder / "space", env=kept | own, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_for(address, process, log):
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not answer: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def client(url):
    client = pytest.importorskip("gradio_client").Client(url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


def test_a_server_without_the_package_answers(client, space, seeing, picture):
    from gradio_client import handle_file

    for image in (None, picture):
        given = None if image is None else handle_file(image)
        page, pictures = client.predict(TEXT, "Ann", "Paris", "Bob | Paris", 0.0, given, api_name="/classify")
        assert rows(page) == rows(space.answer(seeing, TEXT, "Ann", "Paris", "Bob | Paris", 0.0, image)[0]) != []
        assert captions(pictures) == ["Ann → Paris", "Bob → Paris"]


def test_the_server_reads_no_file_of_its_own_machine(url, picture):
    """Asked without a client, which would upload the file: only what was uploaded may be named."""
    image = {"path": picture, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [TEXT, "Ann", "Paris", "", 0.0, image]}).encode()
    call = f"{url}/gradio_api/call/classify"
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as reply:
        said = reply.read().decode()
    assert "event: error" in said and "Cannot move" in said and "Ann → Paris" not in said


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("chromium"), window="1280,1600")
    yield driver
    driver.quit()


def test_a_reader_asks_and_sees_relations_and_a_picture(browser, url, picture, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    def first(selector):
        return WebDriverWait(browser, 90).until(lambda driver: driver.find_elements("css selector", selector))[0]

    def ask(**entries):
        for name, words in entries.items():
            field = first(f"#{name} textarea, #{name} input")
            field.clear()
            field.send_keys(words)
        first("#find").click()

    browser.get(url)
    ask(text="Ann met ${7*7} in Paris and Ann", head="Ann", tail="${7*7}")
    assert "'Ann' is 2 times in the sentence" in first("#ranking .error").text
    first("#image input[type=file]").send_keys(picture)
    first("#image img")
    ask(head="(0, 3)")
    assert first("#ranking h3").text == "Ann → ${7*7}"  # as typed: the page's template does not run it
    shown = browser.find_elements("css selector", "#ranking tbody tr")
    assert len(shown) == 4 and all(re.search(r"\d%", row.text) for row in shown)
    assert not browser.find_elements("css selector", "#ranking .error")
    assert first("#pictures img").get_property("naturalWidth") == 1100
    assert browser.save_screenshot(str(tmp_path / "page.png")) and Image.open(tmp_path / "page.png").width >= 1000
    asked = [urlsplit(asked) for asked in requested_urls(browser)]  # no font, script or count from elsewhere
    assert {part.netloc for part in asked if part.scheme.startswith("http")} == {urlsplit(url).netloc}


def test_the_spaces_files_agree_with_the_package():
    card = SpaceCard.load(SPACE / "README.md").data
    assert (card.sdk, card.app_file, card.license) == ("gradio", "app.py", "apache-2.0") and card.models
    package = (SPACE.parents[1] / "pyproject.toml").read_text()
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    assert {Requirement(line).name for line in lines} == {*PACKAGES, "gradio"}
    assert all(f'"{line}"' in package for line in lines)
    assert Requirement(lines[0]).specifier.contains(card.sdk_version)
