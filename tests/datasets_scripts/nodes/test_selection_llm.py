"""Selection by language models: the paper's prompts, strict reading of answers, a real server that talks nonsense."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from chat_server import ChatServer, Say, Status, image_of, prompt_of
from paths import PAPER, ROOT
from PIL import Image
from selection_posts import Blind, make_post, words

from datasets_scripts.nodes.pairs import FIELDS, PairSelection
from datasets_scripts.nodes.prompts import PROMPTS, answer_schema, take_image_phrases, take_objects, take_text_phrases
from datasets_scripts.nodes.selection import apply_selections, make_selector, select_posts
from datasets_scripts.schema import new_pair


IMAGE = Image.new("RGB", (60, 40), "red")
POST = make_post(pairs=make_post()["pairs"][:1])
FAST = {"timeout": 5.0, "max_retries": 1}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("VMHAN_LLM_API_KEY", "sk-verysecret")


def field_of(body):
    """Which of the three questions a request is."""
    patterns = {field: re.sub(r"\\\{\w+\\\}", ".*", re.escape(paper)) for field, (paper, _) in PROMPTS.items()}
    (field,) = [field for field, pattern in patterns.items() if re.match(pattern, prompt_of(body))]
    return field


GOOD = {
    "text_phrases": '{"phrases": ["sings at", "gus stewart"]}',
    "image_phrases": ' {"phrases": ["a  man singing", "stage"]}\n',
    "objects": '{"objects": [3, 0]}',
}


def answering(**answers):
    """A reply function: a text or a list of texts (the last one is repeated) by field."""
    left = {field: [*text] if isinstance(text, list) else [text] for field, text in (GOOD | answers).items()}

    def reply(number, body):
        texts = left[field_of(body)]
        return texts.pop(0) if len(texts) > 1 else texts[0]

    return reply


def selector_for(server, folder, **options):
    return make_selector(f"openai:llama3,llava@{server.url}", cache_dir=folder, **FAST | options)


@pytest.mark.skipif(not PAPER.is_file(), reason=f"the paper is not at {PAPER}")
def test_the_prompts_are_the_paper_s_words():
    text = " ".join(PAPER.read_text(encoding="utf-8").split())
    for (paper, _), number in zip(PROMPTS.values(), "mnk", strict=True):
        assert paper.format(number=number, head="h", tail="t") in text


def test_what_is_asked_about_a_pair(tmp_path):
    with ChatServer(answering()) as server:
        (selection,) = selector_for(server, tmp_path, num_text_phrases=4, max_image_side=30).select(POST, IMAGE)
        text, image, objects = sorted(server.bodies, key=lambda body: list(GOOD).index(field_of(body)))
    assert words(POST, selection.text_phrases) == ["sings at", "Gus Stewart"]
    assert (selection.image_phrases, selection.objects) == (["a man singing", "stage"], [3, 0])
    assert selection.reasons == {}
    assert (text["model"], image["model"], objects["model"]) == ("llama3", "llava", "llava")
    assert "the top 4 entities" in prompt_of(text) and "entity pair (David Bowie,Earls Court)." in prompt_of(text)
    assert f"Sentence: {' '.join(POST['tokens'])}\n" in prompt_of(text) and image_of(text) is None
    assert '{"phrases": ["...", "..."]}' in prompt_of(text)
    assert "(David Bowie,Earls Court)" in prompt_of(image) and "Reuters" not in prompt_of(image)
    assert "\n2: court [0.02, 0.03, 0.15, 0.23]\n3: Bowie knife [" in prompt_of(objects)
    sent = Image.open(io.BytesIO(image_of(objects)[1]))
    assert sent.format == "JPEG" and sent.size == (30, 20)
    assert text["response_format"]["json_schema"]["schema"] == answer_schema("text_phrases", 4)


def test_a_tail_object_is_named_by_label_and_place_and_not_offered(tmp_path):
    post = make_post(pairs=[{"head": [9, 10], "tail": [], "tail_object": 2}])
    with ChatServer(answering(objects='{"objects": [2, 4]}')) as server:
        (selection,) = selector_for(server, tmp_path).select(post, IMAGE)
        by_field = {field_of(body): prompt_of(body) for body in server.bodies}
        unlabelled = post | {"object_labels": ["a", "b", "", "c", "d"]}
        selector_for(server, tmp_path).select(unlabelled, IMAGE)
        others = [prompt_of(body) for body in server.bodies[3:]]
    assert "(London,court)" in by_field["text_phrases"]
    assert "(London,court [0.02, 0.03, 0.15, 0.23])" in by_field["image_phrases"]
    assert "\n2: " not in by_field["objects"] and "\n3: " in by_field["objects"]
    assert selection.objects == [4]
    assert "'2'" in selection.reasons["objects"]
    assert any("(London,an object of the image)" in prompt for prompt in others)
    assert any("(London,object [0.02," in prompt for prompt in others)


def test_what_need_not_be_asked_is_not(tmp_path):
    without = {"boxes": [], "object_labels": []}
    single = {"boxes": [[0, 0, 3, 3]], "object_labels": ["cup"]}
    only_objects = {"num_text_phrases": 0, "num_image_phrases": 0}
    with ChatServer(answering()) as server:
        blind = selector_for(server, tmp_path).select(POST, None)[0]
        assert set(blind.reasons) == {"image_phrases", "objects"}
        assert [field_of(body) for body in server.bodies] == ["text_phrases"]
        selector = selector_for(server, tmp_path, **only_objects)
        assert set(selector.select(POST | without, IMAGE)[0].reasons) == {"objects"}
        assert selector.select(POST | single, IMAGE)[0] == PairSelection(objects=[0])
        nothing = selector_for(server, tmp_path, **only_objects, num_objects=0).select(POST, IMAGE)[0]
        assert nothing == PairSelection() and len(server.bodies) == 1


CUT = Say('{"phrases": ["sin')
CUT.finish = "length"
ONLY_TEXT = {"num_image_phrases": 0, "num_objects": 0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I cannot help with that.", "JSON.*'I cannot help with that.'"),
        ('Sure! {"phrases": ["sings"]}', "JSON.*'Sure!"),
        ('```json\n{"phrases": ["sings"]}\n```', "JSON.*'```json"),
        ('{"phrases": ["sings"]} Enjoy!', "JSON"),
        (None, "JSON.*''"),
        (CUT, "JSON.*cut off"),
        ("[" * 50_000, "JSON"),
        ('["sings"]', "schema.*'object'"),
        ('{"phrases": "sings"}', "schema.*'array'"),
        ('{"phrases": [1]}', "schema.*'string'"),
        ('{"entities": ["sings"]}', "schema"),
        ('{"phrases": ["sings"], "why": "so"}', "schema.*'why'"),
        ('{"phrases": ["sings", "at", "in", "says"]}', "schema.*too long"),
    ],
)
def test_an_answer_of_the_wrong_form_is_repaired_once_or_stays_empty(answer, reason, tmp_path):
    with ChatServer(answering(text_phrases=[answer, '{"phrases": ["sings"]}'])) as server:
        (selection,) = selector_for(server, tmp_path / "1", **ONLY_TEXT).select(POST, IMAGE)
        assert (words(POST, selection.text_phrases), selection.reasons) == (["sings"], {})
        first, said, repair = server.bodies[1]["messages"]
        assert first["content"] == prompt_of(server.bodies[0])
        assert said == {"role": "assistant", "content": (answer or "").strip() or "(nothing)"}
        assert re.search(reason, repair["content"])
    with ChatServer(answering(text_phrases=answer)) as server:
        for _ in range(2):  # nonsense is remembered too
            (selection,) = selector_for(server, tmp_path / "2", **ONLY_TEXT).select(POST, IMAGE)
        assert len(server.bodies) == 2
    assert selection.text_phrases == [] and re.search(reason, selection.reasons["text_phrases"])


def test_valid_answers_with_things_that_are_not_there(tmp_path):
    nonsense = {
        "text_phrases": '{"phrases": ["Ziggy Stardust", "David Bowie", "sings"]}',
        "image_phrases": '{"phrases": ["", "stage", "STAGE"]}',
        "objects": '{"objects": [5, -1, 4]}',
    }
    with ChatServer(answering(**nonsense)) as server:
        (selection,) = selector_for(server, tmp_path).select(POST, IMAGE)
        assert len(server.bodies) == 3  # the form was right: nothing to repair
    assert words(POST, selection.text_phrases) == ["sings"]
    assert (selection.image_phrases, selection.objects) == (["stage"], [4])
    left_out = {"text_phrases": ["Ziggy", "David"], "image_phrases": ["''", "STAGE"], "objects": ["'5'", "'-1'"]}
    assert all(word in selection.reasons[field] for field, words in left_out.items() for word in words)


def test_none_is_an_answer_and_what_was_not_asked_is_not(tmp_path):
    none = dict.fromkeys(("text_phrases", "image_phrases"), '{"phrases": []}') | {"objects": '{"objects": []}'}
    with ChatServer(answering(**none)) as server:
        asked = selector_for(server, tmp_path).select(POST, IMAGE)[0]
        blind = selector_for(server, tmp_path).select(POST, None)[0]
    assert [getattr(asked, name) for name in FIELDS] == [[], [], []] and set(asked.reasons) == set(FIELDS)
    assert [getattr(blind, name) for name in FIELDS] == [[], None, None]
    (pair,) = apply_selections(POST, [asked])[0]["pairs"]
    assert [pair[name] for name in FIELDS] == [[], [], []]
    (pair,) = apply_selections(POST, [blind])[0]["pairs"]
    assert [pair[name] for name in FIELDS] == [[], None, None]


def test_a_request_without_answer_is_raised_or_recorded(tmp_path):
    def reply(number, body):
        return Status(500, "crashed") if field_of(body) == "objects" else answering()(number, body)

    with ChatServer(reply) as server:
        with pytest.raises(OSError, match="post 'train-0', pair 0, objects: .*'llava'.*crashed"):
            selector_for(server, tmp_path).select(POST, IMAGE)
        (selection,) = selector_for(server, tmp_path, on_failure="empty").select(POST, IMAGE)
    assert selection.objects == [] and "crashed" in selection.reasons["objects"]
    assert selection.text_phrases and selection.image_phrases


FOUND = {"in London": (1, 3), "  in\n London ": (1, 3), "IN london": (1, 3), "in London us": (1, 4)}
FOUND |= {"STRASSE": (7, 8), "&amp;": (5, 6), "Bowie in": (0, 2)}  # the last is more than the mention
FOUND["London"] = (2, 3)  # of two places the one nearest to the mention
FOUND["US"] = (4, 5)  # as it is written, though "us" is nearer
NOT_FOUND = dict.fromkeys(["Lond", "Londoner", "us London", "&amp", "Bowie", "", ".*"])


@pytest.mark.parametrize(("phrase", "span"), [*FOUND.items(), *NOT_FOUND.items()])
def test_a_text_phrase_stands_in_the_sentence_on_token_borders(phrase, span):
    tokens = ["Bowie", "in", "London", "us", "US", "&amp;", "London", "Straße"]
    taken, reason = take_text_phrases([phrase], tokens, [(0, 1)])
    assert taken == [span] * bool(span) and bool(reason) == (not span)


@pytest.mark.parametrize(
    ("phrases", "sentence", "mentions", "spans"),
    [
        (["in"], "in a town in Oslo in all".split(), [(4, 5)], [(3, 4)]),
        (["in"], "in a town in Oslo in all".split(), [(4, 5), (6, 7)], [(5, 6)]),  # the nearest to both mentions
        (["New York city"], ["", "New York", "", "city", " "], [], [(1, 4)]),
        (["in", "IN", "in"], ["Ann", "in", "Oslo"], [(0, 1)], [(1, 2)]),  # once
        (["上海", "王"], list("王芳出生在上海"), [(0, 2)], [(5, 7)]),  # no spaces in the model's answer
        (["Bob's dog"], ["Ann", "met", "Bob", "'s", "dog"], [(0, 1)], [(2, 5)]),
        (["कमल", "José"], ["कमला", "Jose\u0301"], [(0, 1)], [(1, 2)]),
    ],
)
def test_one_place_of_a_text_phrase_counts(phrases, sentence, mentions, spans):
    assert take_text_phrases(phrases, sentence, mentions)[0] == spans


def test_image_phrases_are_printable_and_short_and_objects_whole_numbers():
    taken, reason = take_image_phrases(["ok", "\ud83d", "a\x00b", "w " * 13, "two\n words"])
    assert taken == ["ok", "two words"] and reason.count("printable") == 3
    taken, reason = take_objects([1.0, 0, 1], [0, 1])
    assert taken == [1, 0] and type(taken[0]) is int and "'1'" in reason


def test_what_is_asked_and_chosen_depends_on_the_words_and_the_image_alone(tmp_path):
    post = make_post()
    with ChatServer(answering()) as server:
        selector = selector_for(server, tmp_path)
        chosen = selector.select(post, IMAGE)
        permuted = post | {"pairs": [Blind(pair | {"relation": 22}) for pair in post["pairs"]]}
        assert selector.select(permuted, IMAGE) == chosen
        assert selector.select(post | {"pairs": post["pairs"][1:], "id": "x", "image_id": "y"}, IMAGE) == chosen[1:]
        assert selector.select(post | {"pairs": post["pairs"] * 2}, IMAGE) == chosen * 2
        assert len(server.bodies) == 6  # every later question was the same to the byte


def make_posts(number):
    pairs = [new_pair([0, 1], [2, 3]), new_pair([0, 1], [4, 5])]
    tokens = "Ann met Bob in Oslo number".split()
    return [make_post(id=str(index), tokens=[*tokens, str(index)], pairs=pairs) for index in range(number)]


def test_windows_ask_several_posts_at_once(tmp_path):
    posts = [(post, IMAGE) for post in make_posts(6)]
    answer = answering(text_phrases='{"phrases": ["met"]}')

    def reply(number, body):
        if number <= 3:  # three of the first window, which has two posts
            server.wait_for(3)
        return answer(number, body)

    with ChatServer(reply) as server:
        selector = selector_for(server, tmp_path, window=4, concurrency=3)
        together = list(select_posts(selector, posts))
        assert server.high_water == 3
        assert [selector.select(post, image) for post, image in posts] == together
        assert len(server.bodies) == 12 + 4  # the images are the same and so are the pairs' words: asked once a pair
    assert all(selection.text_phrases == [(1, 2)] for of_post in together for selection in of_post)


SCRIPT = """
import json, sys
from datasets_scripts.nodes.selection import make_selector, select_posts
address, folder, posts = sys.argv[1:]
selector = make_selector(f"openai:m@{address}", cache_dir=folder, window=2, concurrency=2)
list(select_posts(selector, [(post, None) for post in json.loads(posts)]))
"""


def test_kill_9_and_run_again(tmp_path):
    killed, posts = [], make_posts(10)

    def reply(number, body):
        if number == 7 and not killed:
            killed.append(os.kill(process.pid, signal.SIGKILL))
        return '{"phrases": ["met"]}'

    with ChatServer(reply, latency=0.02) as server:
        command = [sys.executable, "-c", SCRIPT, server.url, str(tmp_path), json.dumps(posts)]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert process.wait(60) == -signal.SIGKILL
        time.sleep(0.3)  # until the server has read what the dead process had sent
        num_kept = sum(path.stat().st_size > 0 for path in tmp_path.rglob("*.json"))  # not one just begun
        num_sent = len(server.bodies)
        assert 4 <= num_kept < 20 and num_kept <= num_sent < 20
        selector = make_selector(f"openai:m@{server.url}", **FAST, cache_dir=tmp_path)
        selections = list(select_posts(selector, [(post, None) for post in posts]))
        assert len(server.bodies) == num_sent + 20 - num_kept
    assert [selection.text_phrases for of_post in selections for selection in of_post] == [[(1, 2)]] * 20


@pytest.mark.parametrize(
    ("spec", "text_model", "image_model"),
    [
        ("openai:vlm@http://a:1/v1", ("vlm", "a:1"), ("vlm", "a:1")),
        ("openai:meta/L@http://a:1/v1,l:7b@https://b/v1", ("meta/L", "a:1"), ("l:7b", "b")),
        ("openai:a@http://h/v1,b", ("a", "h"), ("b", "h")),
        ("transformers:llama,llava@rev", ("llama", None, "text"), ("llava", "rev", "image")),
        ("transformers:llava", ("llava", None, "image"), ("llava", None, "image")),
    ],
)
def test_specs(spec, text_model, image_model):
    selector = make_selector(spec, num_objects=7)
    assert selector.numbers["objects"] == 7
    for cached, expected in ((selector.text_model, text_model), (selector.image_model, image_model)):
        names = ("model", "host") if spec.startswith("openai") else ("name", "revision", "kind")
        assert tuple(getattr(cached.model, name) for name in names) == expected


POSITIVE_OPTIONS = ("window", "max_image_side", "batch_size", "max_new_tokens")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("openai:a,b,c@http://h/v1", {}, "spec: .*received 'openai:a,b,c@http"),
        ("transformers:a,", {}, "spec: .*received 'transformers:a,'"),
        ("openai:m@ftp://h/v1", {}, "spec: .*received 'm@ftp"),
        ("openai:m@http://h/v1", {"batch_size": 2}, r"options: .*'timeout'.*received \['batch_size'\]"),
        ("transformers:m", {"timeout": 2}, r"options: .*'batch_size'.*received \['timeout'\]"),
        ("transformers:m", {"num_objects": -1}, "num_objects: .*received -1"),
        *(("transformers:m", {name: 0}, f"{name}: .*received 0") for name in POSITIVE_OPTIONS),
        ("transformers:@main", {}, "model: .*received '@main'"),
    ],
)
def test_bad_specs_and_options(spec, options, message):
    with pytest.raises(ValueError, match=message):
        make_selector(spec, **options)


def test_an_unreadable_image_names_its_post(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, format="JPEG")
    cut = Image.open(io.BytesIO(buffer.getvalue()[: len(buffer.getvalue()) // 2]))
    with pytest.raises(OSError, match="post 'train-0': .*truncated"):
        make_selector("openai:m@http://h/v1", cache_dir=tmp_path).select(make_post(), cut)


def test_description_says_models_prompts_and_host_and_no_secret():
    spec = "openai:llama3@http://gpu7:8000/v1,llava@http://gpu8/v1"
    description = make_selector(spec, num_objects=4, parameters={"max_tokens": 9}).description
    assert description["text_model"]["model"] == "llama3" and description["text_model"]["endpoint"] == "gpu7:8000"
    assert description["image_model"]["parameters"] == {"max_tokens": 9}
    assert description["prompts"]["objects"]["text"].startswith(PROMPTS["objects"][0])
    assert (description["num_text_phrases"], description["num_objects"]) == (3, 4)
    assert "secret" not in json.dumps(description)
