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
FIELDS = ("known", "mentions", "marked", "facts", "graph", "rankings", "pictures")


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


@pytest.fixture(scope="module")
def finding(make_pipe, make_model, make_vision_config):
    """A pipeline whose model finds mentions, of two types, and reads pixels; its weights are random."""
    fields = {"vision_encoder": "transformers", "vision_config": make_vision_config(hidden_size=8)}
    fields |= {"entity_representation": "packed", "mentions": True, "mention_types": ["per", "loc"]}
    return make_pipe(model=make_model(**fields))


@pytest.fixture(scope="module")
def ask(space):
    """`ask(pipe, text, **fields)` -> what the button shows, by `FIELDS`."""

    def asked(pipe, text, mentions="", known=("", ""), pairs="", objects="", threshold=0.0, image=None):
        return dict(zip(FIELDS, space.answer(pipe, known, text, mentions, pairs, objects, threshold, image)))

    return asked


def fact_rows(page):
    """(head, relation, tail, score in per cent) of each row of the facts' table."""
    table = re.search(r"<table class='facts'>(.*?)</table>", page, re.DOTALL)
    found = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>.*?<td>([\d.]+)%</td></tr>", table.group(1))
    return [(*map(html.unescape, names), float(score)) for *names, score in found]


def shown(facts):
    return [(fact["head"], fact["relation"], fact["tail"], round(100 * fact["score"], 1)) for fact in facts]


def marks(page):
    """(words, type) of each mention marked in the text."""
    found = re.findall(r"<mark style='.*?'>(.*?)(?:<small>(.*?)</small>)?</mark>", page)
    return [(html.unescape(words), type_ or None) for words, type_ in found]


def rankings(page):
    """The relations of each folded ranking, with their classes."""
    found = re.findall(r"<details.*?</details>", page, re.DOTALL)
    return [re.findall(r"<tr class='(.*?)'><td>(.*?)</td>", ranking) for ranking in found]


def captions(figures):
    found = re.findall(r"<figcaption>What carried the answer for (.*?)<", figures)
    return [html.unescape(caption) for caption in found]


def test_a_raw_post_shows_the_pipelines_mentions_and_facts(ask, finding):
    page, found = ask(finding, TEXT), finding.find_mentions(TEXT)
    words = [(TEXT[mention.start : mention.end], mention.type) for mention in found]
    assert marks(page["marked"]) == words and len(words) > 2
    assert page["mentions"].splitlines() == [f"{of} | {type_}" for of, type_ in words]
    expected = finding(TEXT)
    assert fact_rows(page["facts"]) == shown(expected) and len(expected) > 3
    assert captions(page["pictures"]) == [f"{fact['head']} → {fact['tail']}" for fact in expected[:3]]
    data = re.search(r"src='data:image/png;base64,(.*?)'", page["pictures"]).group(1)
    assert Image.open(io.BytesIO(base64.b64decode(data))).width == 1100


def test_a_persons_mentions_stand_for_the_models(ask, finding):
    page = ask(finding, TEXT, "Ann | per\nBob\n(15, 20) | loc")
    assert marks(page["marked"]) == [("Ann", "per"), ("Bob", None), ("Paris", "loc")]
    expected = finding({"text": TEXT, "mentions": ["Ann", "Bob", "Paris"]})
    assert fact_rows(page["facts"]) == shown(expected) != []
    fewer = ask(finding, TEXT, "Ann\nBob")
    assert fact_rows(fewer["facts"]) == shown(finding({"text": TEXT, "mentions": ["Ann", "Bob"]}))
    assert fewer["mentions"] == "Ann\nBob"


def test_mentions_are_found_anew_for_another_text_unless_a_person_wrote_them(ask, finding):
    first, other = ask(finding, TEXT), "Bob played with the band at night"
    again = ask(finding, other, first["mentions"], known=first["known"])
    assert again["mentions"] == ask(finding, other)["mentions"] and again["known"] == (other, again["mentions"])
    own = ask(finding, other, "Bob\nband", known=first["known"])
    assert own["mentions"] == "Bob\nband" and len(marks(own["marked"])) == 2 and own["known"] == first["known"]


@pytest.mark.parametrize(
    "text, mentions",
    [
        (TEXT, [(0, 3, "per"), (15, 20, None)]),
        ("Ann and Ann", [(0, 3, None), (8, 11, "per")]),
        ("a | b met c", [(0, 5, "org"), (10, 11, None)]),
        ("Ann\nLee met Bob", [(0, 7, "per"), (12, 15, None)]),
        ("Annika met Ann", [(11, 14, None)]),
        ("王芳出生在上海", [(0, 2, "per"), (5, 7, "loc")]),
    ],
)
def test_what_is_written_for_mentions_is_read_as_the_same(space, finding, text, mentions):
    read = space.read_mentions(finding, text, space.written(text, mentions))
    assert [mention[:3] for mention in read] == mentions


def test_a_model_that_finds_no_mentions_is_given_them(ask, seeing):
    page = ask(seeing, TEXT)
    assert "no mentions" in page["facts"] + page["marked"] and page["graph"] == page["pictures"] == ""
    page = ask(seeing, TEXT, "Ann\nBob\nParis")
    assert fact_rows(page["facts"]) == shown(seeing({"text": TEXT, "mentions": ["Ann", "Bob", "Paris"]})) != []
    assert "No facts" in ask(seeing, TEXT, "Ann")["facts"]


def test_a_least_score_hides_facts(ask, seeing):
    scores = [row[-1] for row in fact_rows(ask(seeing, TEXT, "Ann\nBob\nParis")["facts"])]
    least = (scores[0] + scores[1]) / 200
    few = ask(seeing, TEXT, "Ann\nBob\nParis", threshold=least)
    assert [row[-1] for row in fact_rows(few["facts"])] == scores[:1]


def test_the_none_relation_is_ranked_even_where_it_is_low(ask, make_pipe, make_model):
    names = ["none", *(f"relation {i}" for i in range(30))]
    pipe = make_pipe(model=make_model(id2label=dict(enumerate(names)), none_label="none"))
    ranked = rankings(ask(pipe, TEXT, "Ann\nBob\nParis\nband")["rankings"])
    for of_pair in ranked:
        assert [relation for classes, relation in of_pair if "none" in classes] == ["none (no relation)"]
    assert any(len(of_pair) == 6 for of_pair in ranked)


def test_pairs_are_asked_instead_and_a_box_is_a_tail(ask, space, seeing, picture):
    page = ask(seeing, TEXT, "Ann\nBob", pairs="Ann | (1, 2, 30, 40)\n\n (0, 3)|Paris ", image=picture)
    assert captions(page["pictures"]) == ["Ann → [1.0, 2.0, 30.0, 40.0]", "Ann → Paris"]
    assert len(rankings(page["rankings"])) == 2 and marks(page["marked"]) == []
    boxed = [{"head": "Ann", "tail": (1, 2, 3, 4)}, {"head": (0, 3), "tail": "b"}]
    assert space.read_pairs("Ann|(1, 2,3, 4)\n(0, 3) | b") == boxed
    assert "<rect x='1.0' y='2.0' width='29.0' height='38.0'" in page["pictures"]


def test_the_image_and_its_objects_reach_the_model_and_are_shown(ask, space, seeing, picture):
    asked = {"mentions": "Ann\nBob\nParis", "image": picture}
    pages = [ask(seeing, TEXT, **asked, objects=of) for of in ("", "1, 2, 30, 40 a <b>\n(5, 6, 7, 8)")]
    pages.append(ask(seeing, TEXT, "Ann\nBob\nParis"))
    assert len({str(fact_rows(page["facts"])) for page in pages}) == 3
    places = re.findall(r"<rect x='([\d.]+)' y='([\d.]+)' width='([\d.]+)' height='([\d.]+)'", pages[1]["pictures"])
    assert {tuple(map(float, place)) for place in places} == {(1, 2, 29, 38), (5, 6, 2, 2)}
    assert "viewBox='0 0 64 48'" in pages[1]["pictures"] and ">a &lt;b&gt;</text>" in pages[1]["pictures"]
    assert "no objects" in pages[0]["pictures"] and "class='boxes'" not in pages[2]["pictures"]
    expected = {"boxes": [[1, 2, 30, 40], [5, 6, 7, 8]], "object_labels": ["a <b>", ""]}
    assert space.read_objects("1, 2, 30, 40 a <b>\n(5, 6, 7, 8)") == expected and space.read_objects("\n") == {}


def graph_parts(svg):
    """Names of the graph's chips with their colours, and the relations on its arrows."""
    chips = re.findall(r"fill='(#\w+)'/><text class='node'.*?>(.*?)</text>", svg)
    facts = re.findall(r"<text class='fact'.*?>(.*?)</text>", svg)
    return {html.unescape(name): colour for colour, name in chips}, facts


def test_the_graph_has_a_chip_for_a_mention_and_an_arrow_for_a_fact(space):
    def fact(head, relation, tail, types=("per", "per")):
        return {"head": head, "relation": relation, "tail": tail, "head_type": types[0], "tail_type": types[1]}

    facts = [
        fact("Ann", "/per/per/peer", "Bob"),
        fact("Bob", "/per/per/peer", "Ann"),
        fact("ann", "/per/per/x", "Bob"),
    ]
    facts.append(fact("Ann", "lives_in", "<b>", ("per", None)))
    svg = space.fact_graph(facts, {"per": "#111111", None: "#222222"})
    assert graph_parts(svg) == (
        {"Ann": "#111111", "Bob": "#111111", "<b>": "#222222"},
        ["peer", "peer", "x", "lives_in"],
    )
    places = re.findall(r"<text class='fact' x='(.*?)' y='(.*?)'", svg)
    assert svg.count("<path d='M") == 5 and len(set(places)) == 4 and "<b>" not in svg  # 4 lines, and the arrow head
    assert space.fact_graph([], {}) == ""


def test_a_type_has_one_colour_in_the_text_and_in_the_graph(ask, finding):
    page = ask(finding, TEXT, "Ann | per\nBob\nParis | loc")
    grounds = re.findall(r"<mark style='background: (.*?)'>(\w+)", page["marked"])
    chips, _ = graph_parts(page["graph"])
    assert {name: colour for colour, name in grounds} == chips and len(set(chips.values())) == 3


def test_without_attention_there_is_no_picture_of_what_carried(ask, make_pipe):
    page = ask(make_pipe("gcn"), TEXT, "Ann\nParis\nBob")
    assert fact_rows(page["facts"]) and rankings(page["rankings"]) and page["pictures"] == ""


def test_a_pair_of_a_post_s_hypergraph_is_not_asked_alone(ask, make_pipe, make_model):
    """Its ranking says what the table of facts says, which other pairs had a say in."""
    pipe, mentions = make_pipe(model=make_model(hypergraph_scope="post", visual_feature_size=0)), "Ann\nBob\nParis"
    page = ask(pipe, TEXT, mentions=mentions)
    facts = pipe({"text": TEXT, "mentions": mentions.split()})
    assert fact_rows(page["facts"]) == shown(facts) and facts
    ranked = re.findall(r"<tr class='best[^>]*>.*?<td>([\d.]+)%</td></tr>", page["rankings"])
    assert ranked == [f"{100 * fact['top_k'][0]['score']:.1f}" for fact in facts]


def test_words_of_the_post_are_not_html(ask, finding):
    page = ask(finding, "Ann saw <img src=x> in Paris", "<img src=x> | <i>\nParis\nAnn")
    assert "<img" not in "".join(page[name] for name in ("marked", "facts", "graph")) and "<i>" not in page["marked"]
    assert ("<img src=x>", "&lt;i&gt;") in marks(page["marked"]) and "<img src=x>" in graph_parts(page["graph"])[0]
    assert "&lt;img src=x&gt;" in page["facts"]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"mentions": "Zoe"}, "'Zoe'"),
        ({"mentions": "(90, 99)"}, "span"),
        ({"text": None, "mentions": "Ann"}, "'Ann' .* ''"),
        ({"text": "Ann <b>", "mentions": "Zoe <i>"}, "'Zoe &lt;i&gt;'"),
        ({"text": "Ann " * 2000, "mentions": "Ann"}, "5000 .* 8000"),
        ({"mentions": "Ann\n" * 21}, "20 .* 21"),
        ({"pairs": "Bob & Paris"}, "'Bob &amp; Paris'"),
        ({"pairs": "Ann | Bob\n" * 21}, "20 .* 21"),
        ({"mentions": "Ann\nBob", "objects": "1, 2, 3 car"}, "'1, 2, 3 car'"),
        ({"mentions": "Ann\nBob", "image": "broken.png"}, "broken.png"),
        ({}, "finds no mentions"),
    ],
)
def test_what_cannot_be_taken_is_said(ask, seeing, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n of nothing")
    page = ask(seeing, **{"text": TEXT, **given})
    assert page["marked"].startswith("<div class='error' role='alert'>")
    assert page["facts"] == page["graph"] == page["rankings"] == page["pictures"] == ""
    assert re.search(said, page["marked"].replace("&#x27;", "'"))


def test_the_page_has_a_place_for_an_image_only_where_one_is_taken(space, seeing, pipe):
    for given, takes in ((seeing, True), (pipe, False)):
        demo = space.build_demo(given)
        kinds = [block.get_block_name() for block in demo.blocks.values()]
        assert ("image" in kinds) == takes and demo.analytics_enabled is False


@pytest.fixture(scope="module")
def url(finding, tmp_path_factory):
    """Of `python app.py` in a copy of the Space, by a Python that has the Space's requirements and nothing of ours."""
    folder = tmp_path_factory.mktemp("server")
    finding.save_pretrained(folder / "model")
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


def test_a_server_without_the_package_answers(client, ask, finding, picture):
    from gradio_client import handle_file

    for image in (None, picture):
        given = None if image is None else handle_file(image)
        mentions, marked, facts, graph, folded, pictures = client.predict(
            TEXT, "", "", "", 0.0, given, api_name="/facts"
        )
        expected = ask(finding, TEXT, image=image)
        assert mentions == expected["mentions"] and marks(marked) == marks(expected["marked"])
        assert fact_rows(facts) == fact_rows(expected["facts"]) != []
        assert graph_parts(graph) == graph_parts(expected["graph"])
        assert rankings(folded) == rankings(expected["rankings"])
        assert captions(pictures) == captions(expected["pictures"]) and len(captions(pictures)) == 3


def test_the_server_reads_no_file_of_its_own_machine(url, picture):
    """Asked without a client, which would upload the file: only what was uploaded may be named."""
    image = {"path": picture, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [None, TEXT, "", "", "", 0.0, image]}).encode()
    call = f"{url}/gradio_api/call/facts"
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as reply:
        said = reply.read().decode()
    assert "event: error" in said and "Cannot move" in said and "Ann" not in said


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start_chromium(tmp_path_factory.mktemp("chromium"), window="1280,1600")
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, url):
    """The page in the browser, as a reader has it: fields are written, the button is pressed, results waited for."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(url)

    class Page:
        def all(self, selector):
            return browser.find_elements("css selector", selector)

        def first(self, selector):
            return WebDriverWait(browser, 90).until(lambda driver: driver.find_elements("css selector", selector))[0]

        def write(self, **entries):
            for name, words in entries.items():
                field = self.first(f"#{name} textarea, #{name} input")
                field.clear()
                field.send_keys(words)

        def press(self, selector):
            """Press the button, and wait until there is what was not there before."""
            before = [element.id for element in self.all(selector)]
            self.first("#find").click()
            WebDriverWait(browser, 90).until(
                lambda _: (now := self.all(selector)) and [element.id for element in now] != before
            )

        def marks(self):
            return [browser.execute_script("return arguments[0].firstChild.data", of) for of in self.all("mark")]

        def facts(self):
            return [row.text for row in self.all("#facts .facts tbody tr")]

    return Page()


def test_a_reader_writes_a_post_and_sees_facts_and_edits_mentions(browser, page, url, picture, finding, tmp_path):
    text = "Ann met ${7*7} in Paris"
    page.write(text=text)
    page.first("#image input[type=file]").send_keys(picture)
    page.first("#image img")
    page.press("#marked mark")
    found = finding.find_mentions(text)
    lines = page.first("#mentions textarea").get_property("value").splitlines()
    assert len(page.marks()) == len(lines) == len(found) > 1
    facts = page.facts()
    assert facts and all(re.search(r"\d%$", fact) for fact in facts)
    assert len(page.all("#graph svg .fact")) == len(facts)
    assert page.first("#pictures svg.boxes image") and page.first("#pictures img").get_property("naturalWidth") == 1100

    page.write(mentions="Ann | per\n${7*7}\nParis | loc")
    page.press("#marked mark")
    assert page.marks() == ["Ann", "${7*7}", "Paris"]  # no template runs what is typed
    assert page.facts() != facts and not page.all("#marked .error")
    chips = {chip.text for chip in page.all("#graph svg .node")}
    assert chips <= {"Ann", "${7*7}", "Paris"} and len(chips) > 1
    page.write(mentions="Zoe")
    page.press("#marked .error")
    assert "'Zoe'" in page.first("#marked .error").text and page.facts() == []
    assert browser.save_screenshot(str(tmp_path / "page.png")) and Image.open(tmp_path / "page.png").width >= 1000
    asked = [urlsplit(asked) for asked in requested_urls(browser)]  # no font, script or count from elsewhere
    assert {part.netloc for part in asked if part.scheme.startswith("http")} == {urlsplit(url).netloc}


def test_names_of_every_script_fit_their_chips_and_hide_no_other(browser, page):
    """By the browser's own measure of what it draws."""
    text = "Beyoncé met 王芳 and أحمد علي and कमला and 👨‍👩‍👧 Łukasz WWWWWWWWWW"
    page.write(text=text.replace("👨‍👩‍👧", "x"))  # chromedriver types no emoji
    page.write(mentions="Beyoncé\n王芳\nأحمد علي\nकमला\nŁukasz\nWWWWWWWWWW")
    page.press("#graph svg .node")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#graph svg .node')].map(node => "
        "[node, node.previousElementSibling].map(of => {const b = of.getBBox(); "
        "return [b.x, b.y, b.x + b.width, b.y + b.height]}))"
    )
    assert len(boxes) > 4
    assert all(chip[0] <= words[0] and words[2] <= chip[2] for words, chip in boxes)
    chips = [chip for _, chip in boxes]
    for i, (left, top, right, bottom) in enumerate(chips):
        assert not any(left < x2 and x1 < right and top < y2 and y1 < bottom for x1, y1, x2, y2 in chips[:i])


def test_the_spaces_files_agree_with_the_package():
    card = SpaceCard.load(SPACE / "README.md").data
    assert (card.sdk, card.app_file, card.license) == ("gradio", "app.py", "apache-2.0") and card.models
    package = (SPACE.parents[1] / "pyproject.toml").read_text()
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    assert {Requirement(line).name for line in lines} == {*PACKAGES, "gradio"}
    assert all(f'"{line}"' in package for line in lines)
    assert Requirement(lines[0]).specifier.contains(card.sdk_version)
