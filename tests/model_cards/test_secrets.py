"""No place that prints or keeps an address shows its password or its query, whatever command it is given to."""

import argparse
import json
import time
import traceback

import pytest

from datasets_scripts.checking import checked
from datasets_scripts.commands import run_command
from datasets_scripts.nodes.chat_openai import OpenAIChatModel
from datasets_scripts.nodes.selection import make_selector
from datasets_scripts.prepare.arguments import PrepareArguments
from model_cards.publishing import _explained
from model_cards.run_metadata import describe_run
from model_cards.secrets import without_secrets
from modeling_vmhan.addresses import shown_url
from vmhan.evaluation.sweep.plan import Run
from vmhan.evaluation.sweep.runs import FAILURE, record_failure
from vmhan.inference.answering import answer_here


ADDRESSES = [
    "http://ann:s3cret@host/v1", "https://s3cret@host/x.png", "http://host/x.png?X-Amz-Signature=s3cret",
    "http://ann:s3cret@host:8000/v1?key=s3cret#s3cret", "http://ann:s3'cret\"s3cret@host/v1", "ray://ann:s3cret@host:1",
    "http://ann:s3/s3cret@host/v1", "http://ann:s3?s3cret@host/v1", "http://ann:s3@s3cret@host",
    "http:\\\\a:s3cret@host",
    "postgresql+psycopg://ann:s3cret@host/db", "https://host/#access_token=s3cret", "socks5h://ann:s3cret@host",
    "http:/ann:s3cret@host/x",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "frame", ["{}", "at {}, no", "'{}'. Next", "({})", '{{"url": "{}", "n": 5}}', "openai:m@{},b", "a={} b"]
)
def test_an_address_in_a_text_is_shown_as_it_is_alone(address, frame):
    text = frame.format(address)
    shown = without_secrets(text)
    assert "s3" not in shown and "host" in shown
    before, after = frame.format("\0").split("\0")
    assert shown.startswith(before) and shown.endswith(after.lstrip("b,")) and shown_url(address)[:12] in shown


def test_each_of_several_addresses_is_shown():
    spec = "openai:a@http://u:s3cret@h1/v1,b@http://u:s3cret@h2/v1?s3cret"
    assert without_secrets(spec) == "openai:a@http://h1/v1,b@http://h2/v1?..."


@pytest.mark.parametrize(
    "text",
    ["http://host:80/logo@2x.png is", "https://github.com/thecharm/Mega", "see https://x.org/a, https://y.org/b.",
     "ann@example.org", "head: 'Ann', tail: 'Bob'", "--tokens_per_batch=64", "max_tokens=256", "{'max_tokens': 256}",
     "token: expected one that may write", "{'token': ['Ann', 'met']}", "ultralytics:yolo.pt?max_objects=5",
     "C:\\a@b?c"],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    ['{"api_key": "s3cret"}', "{'hub_token': 's3cret s3cret'}", '{"password":"s3\\"cret"}', "--hub_token=s3cret",
     "API-KEY=s3cret", "{'x-api-key': 's3cret', 'a': 1}", '"Authorization": "Bearer s3cret"',
     "client_secret='s3cret'"],
)  # fmt: skip
def test_a_named_secret_is_left_out(text):
    assert "s3" not in without_secrets(text) and "..." in without_secrets(text)


def test_records_keep_all_else():
    record = {"spec": "m@http://a:s3cret@h/v1", "options": [{"api_key": "s3cret", "max_tokens": 5}, None, 0.5, True]}
    expected = {"spec": "m@http://h/v1", "options": [{"api_key": "...", "max_tokens": 5}, None, 0.5, True]}
    assert without_secrets(record) == expected and record["options"][0]["api_key"] == "s3cret"


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "http://" + "a" * 100_000, "http://a:b" * 20_000, "@" * 100_000, "token" * 20_000 + "=",
             "http://h/" + "'" * 100_000 + "x?", "password=" * 20_000, '"api_key": "' + "\\" * 100_000]
)  # fmt: skip
def test_a_long_text_takes_no_longer_than_its_length(text):
    started = time.monotonic()
    without_secrets(text)
    assert time.monotonic() - started < 1


def prepare_arguments(tmp_path, **options):
    return PrepareArguments(source="jsonl", output_dir=str(tmp_path / "out"), **options)


def of_command(error):
    def said(address, tmp_path, capsys):
        def fail():
            raise error(f"cannot reach {address}: refused")

        assert run_command("vmhan", fail) == 2
        return capsys.readouterr().err

    return said


def of_argparse(address, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--ray_address")
    assert run_command("vmhan", lambda: parser.parse_args(["--ray_adress", address])) == 2
    return capsys.readouterr().err


def raised(make):
    def said(address, tmp_path, capsys):
        with pytest.raises((ValueError, OSError)) as caught:
            make(address, tmp_path)
        chain = traceback.TracebackException.from_exception(caught.value)
        assert chain.__cause__ is None and (
            chain.__context__ is None or chain.__suppress_context__
        )  # nothing else shown
        return str(caught.value)

    return said


def of_errors_jsonl(address, tmp_path, capsys):
    def pipe(questions, batch_size):
        raise OSError(f"no answer of {address}")

    rows = [json.dumps({"text": "a", "head": "a", "tail": "a"}), json.dumps(address), json.dumps({address: 1})]
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    (answered,) = answer_here(pipe, tmp_path / "in.jsonl", tmp_path, skip=0, batch_size=8)
    assert len(answered.errors) == 3
    return json.dumps(answered.errors)


def of_run_json(address, tmp_path, capsys):
    argv = ["--dataset", address, f"--features={address}", "--model_kwargs", json.dumps({"url": address})]
    groups = {"model": {"text_encoder": address, "kwargs": {"url": address}}, "data": {"dataset": address}}
    return json.dumps(describe_run(argv, **groups, training={"optim": address}))


def of_sweep(address, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(f"features: {json.dumps(address)}\n")
    run = Run("d", "r", 1, tmp_path, str(tmp_path / "config.yaml"), {"dataset": address, "endpoints": [address]})
    record_failure(run, f"Traceback:\n  OSError: {address} is not there")
    return json.dumps(run.settings()) + (tmp_path / FAILURE).read_text()


def of_publishing(address, tmp_path, capsys):
    with pytest.raises(ConnectionError) as caught, _explained("ann/tiny"):
        raise ConnectionError(f"refused: {address}/api/models")
    return str(caught.value)


PLACES = {
    "ValueError of a command": of_command(ValueError),
    "OSError of a command": of_command(OSError),
    "argparse": of_argparse,
    "errors.jsonl": of_errors_jsonl,
    "run.json and the card": of_run_json,
    "settings.json and failed.txt": of_sweep,
    "publish": of_publishing,
    "selector": raised(lambda address, _: make_selector(f"openai:a,b,c@{address}")),
    "selector without models": raised(lambda address, _: make_selector(f"openai:a,x{address}")),
    "selector's options": raised(lambda address, _: make_selector(f"openai:a@{address}", unknown=address)),
    "selector_options": raised(
        lambda address, path: prepare_arguments(path, selector_options=f'{{"base_url": "{address}"')
    ),
    "base_url": raised(lambda address, _: OpenAIChatModel("m", address)),
    "a field": raised(lambda address, _: checked(int, address, "field")),
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("place", PLACES)
def test_no_place_shows_a_secret(place, address, tmp_path, capsys):
    said = PLACES[place](address, tmp_path, capsys)
    assert "s3" not in said and "host" in said
