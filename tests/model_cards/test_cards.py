"""Cards say what the files say: nothing else, nothing less, and leaks first."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT, SHARED

from model_cards import checking
from model_cards.cards import PAPER_RESULTS, main, model_card, write_model_card
from model_cards.checking import check_card
from model_cards.run_metadata import describe_run, leak_reasons, read_metadata


PAPER = SHARED / "paper"
CONFIG = {"entity_representation": "packed", "num_layers": 2, "hyperedges": ["global", "intra"]}
CONFIG |= {"classifier_dropout": 0.6, "kl_loss_weight": 0.001, "visual_feature_size": 0, "vision_encoder": None}
CONFIG["id2label"] = {"0": "None", "1": "peer"}


@pytest.fixture
def folder(tmp_path, write_run_files):
    """An output folder, as far as cards are concerned."""
    write_run_files(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def read_tables(text):
    """{key: cell} of every row that names its key; under a heading other than `value` the key is HEADING_key."""
    found, headings = {}, []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        headings = cells if line.startswith("| ") and not headings else headings if line.startswith("|") else []
        if key := re.search(r"`(\w+)`", cells[0]) if line.startswith("|") else None:
            for heading, cell in zip(headings[1:], cells[1:], strict=True):
                found[key[1] if heading == "value" else f"{heading}_{key[1]}"] = cell
    return found


def test_every_score_and_setting_is_in_the_card(folder):
    stated = read_tables(model_card(folder).text)
    assert (stated["test_f1"], stated["validation_accuracy"], stated["test_loss"]) == ("0.6999", "0.9123", "0.3000")
    assert (stated["learning_rate"], stated["bf16"], stated["hyperedges"]) == ("2e-05", "false", "global, intra")
    assert (stated["seed"], stated["train_runtime"], stated["preset"]) == ("7", "12.5000", "full")
    assert "test_runtime" not in stated


@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from(["test_f1", "test_x", "validation_ece", "epoch"]), st.floats(0, 1), min_size=1))
def test_the_card_follows_metrics_json(tmp_path_factory, write_run_files, values):
    folder = tmp_path_factory.mktemp("card")
    write_run_files(folder, **values)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    stated = read_tables(model_card(folder).text)
    found = {name: cell for key, value in values.items() for name, cell in stated.items() if name == key}
    assert found == {name: f"{value:.4f}" for name, value in values.items()}
    write_model_card(folder)
    assert check_card(folder) == []


def test_the_model_index_has_the_exact_metrics(folder):
    card, metrics = ModelCard(str(model_card(folder))), json.loads((folder / "metrics.json").read_text())
    stated = {f"{r.dataset_split}_{r.metric_type}": r.metric_value for r in card.data.eval_results}
    names = [f"{of}_{s}" for of in ("validation", "test") for s in ("accuracy", "precision", "recall", "f1")]
    assert stated == {name: metrics[name] for name in names}


@pytest.mark.parametrize(
    "old, new",
    [
        ("0.6999", "0.7999"),
        ("| 2e-05 |", "| 3e-05 |"),
        ("| `seed` |", "| `sead` |"),
        ("85.80", "58.80"),
        ("value: 0.699857", "value: 0.8"),
        ("## Data", "It reaches 99.9 in our tests.\n\n## Data"),
        ("| recall (`recall`) | 0.6900 | 0.6900 |\n", ""),
        ("    - type: recall\n      value: 0.69\n", ""),
    ],
)
def test_a_changed_card_is_caught(folder, old, new):
    replace(write_model_card(folder), old, new)
    said, number = "\n".join(check_card(folder)), re.search(r"\d[\d.]+|`sead`", new or old)
    assert number[0] in said


def test_the_commands_write_and_check_a_card_whose_other_words_may_be_edited(folder, capsys):
    main([str(folder), "--repo_id", "ann/tiny"])
    assert capsys.readouterr().out.strip() == str(folder / "README.md")
    replace(folder / "README.md", "What the data says about groups", "Whatever the data says")
    assert checking.main([str(folder)]) == 0 and 'repo_id = "ann/tiny"' in (folder / "README.md").read_text()
    change(folder / "metrics.json", test_f1=0.75)  # a card older than its metrics
    assert checking.main([str(folder)]) == 1
    said = capsys.readouterr().out
    assert all(word in said for word in (f"{folder}/README.md: ", "0.6999", "0.7500", "value: 0.75"))


def test_the_paper_s_numbers_are_the_paper_s_and_marked_as_such(folder):
    section = model_card(folder).text.split("## Reported by the paper, not by this model")[1].split("##")[0]
    assert "were not reproduced here" in section
    for name, scores in PAPER_RESULTS.items():
        assert f"| {name} | {' | '.join(f'{value:.2f}' for value in scores.values())} |" in section
    if not PAPER.is_dir():
        pytest.skip(f"the paper is not at {PAPER}")
    row = next(line for path in PAPER.glob("*.txt") for line in path.open() if line.startswith("VM-HAN (Ours)"))
    printed = [float(cell) for cell in re.findall(r"\d\d\.\d\d", row)]
    assert printed == [value for scores in PAPER_RESULTS.values() for value in scores.values()]


def test_leaky_results_are_marked_and_kept_out_of_the_model_index(folder, write_run_files):
    write_run_files(folder, leaky=True, leak_reasons=["crop counts separate None from the rest"])
    card = ModelCard(write_model_card(folder).read_text())
    assert card.data.eval_results is None and "model-index" not in str(card)
    assert card.data["leaky"] is True and "leaky" in card.data.tags
    warning, results = card.text.index("> [!WARNING]"), card.text.index("## Results")
    assert warning < card.text.index("> - crop counts separate None from the rest") < results
    assert check_card(folder) == []


def test_a_control_with_the_pictures_of_other_posts_says_so(folder, write_run_files):
    assert "A control" not in write_model_card(folder).read_text()
    write_run_files(folder, data={"shuffled_images": 3}, shuffled_images=3)
    card = ModelCard(write_model_card(folder).read_text())
    assert card.data.eval_results is None and "shuffled-images" in card.data.tags
    assert card.text.index("**A control, not a result:**") < card.text.index("## Results")
    assert "`--shuffled_images 3`" in card.text and check_card(folder) == []
    replace(folder / "README.md", "`--shuffled_images 3`", "`--shuffled_images 4`")
    assert any("shuffled_images 3" in problem for problem in check_card(folder))


@pytest.mark.parametrize(
    ("scope", "said"), [(None, "per entity pair"), ("pair", "per entity pair"), ("post", "per post")]
)
def test_the_card_says_what_a_hypergraph_is_of(folder, scope, said):
    if scope is not None:
        change(folder / "config.json", hypergraph_scope=scope)
    assert f"hypergraph {said}," in model_card(folder).text


def test_an_unmarked_leak_is_caught(folder, write_run_files):
    honest = str(model_card(folder))
    write_run_files(folder, leaky=True)
    replace(write_model_card(folder), "**The results below are leaky", "**Nice results")
    assert any("The results below are leaky" in problem for problem in check_card(folder))
    (folder / "README.md").write_text(honest)
    said = "\n".join(check_card(folder))
    assert "`value: 0.699857` stands in the card" in said and "`leaky: true` comes from the files" in said


@pytest.mark.parametrize(
    "leaky, reasons, status", [(None, None, "not recorded"), (False, [], "none of the auxiliary files")]
)
def test_the_leak_status_is_stated(folder, write_run_files, leaky, reasons, status):
    write_run_files(folder, **({} if leaky is None else {"leaky": leaky}))
    card = model_card(folder)
    assert leak_reasons(json.loads((folder / "metrics.json").read_text())) == reasons
    assert f"**Leak status:** {status}" in card.text and "[!WARNING]" not in card.text
    assert card.data.to_dict().get("leaky") is leaky and card.data.eval_results


@pytest.mark.parametrize(
    "name, base_model",
    [
        ("offline:all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("microsoft/deberta-v3-base", "microsoft/deberta-v3-base"),
        (str(ROOT / "configs"), None),
    ],
)
def test_hub_names_of_encoder_and_data_are_metadata_and_folders_are_not(folder, write_run_files, name, base_model):
    write_run_files(folder, model={"text_encoder": name})
    card = model_card(folder)
    assert (card.data.base_model, card.data.datasets) == (base_model, None)
    assert base_model is None or f"[{base_model}](https://huggingface.co/{base_model})" in card.text
    write_run_files(folder, data={"dataset": "ann/posts", "dataset_config": "mnre"})
    card = model_card(folder)
    assert card.data.datasets == "ann/posts"
    assert {(r.dataset_type, r.dataset_config) for r in card.data.eval_results} == {("ann/posts", "mnre")}


@pytest.mark.parametrize(
    "flags",
    [
        "--hub_token hf_secret",
        "--x_token=hf_secret",
        "--hub-t=hf_secret",
        "--api-key hf_secret",
        "--password=hf_secret",
        "--hub_token hf_secret hf_secret",
        "--dataset https://ann:hf_secret@host/posts",
        "--dataset=s3://hf_secret@a/b",
    ],
)
def test_no_token_and_no_private_folder_is_told(folder, flags):
    run = describe_run(
        ["c.yaml", *flags.split(), "--output_dir=/home/ann/out", "--data_dir", "/home/ann/mnre"],
        model={"text_encoder": "/home/ann/encoder"},
        data={"dataset": "/home/ann/posts", "data_dir": "/home/ann/mnre", "cache_dir": "/home/ann/cache"},
        training={"hub_token": "hf_secret", "output_dir": "/home/ann/out", "learning_rate": 0.1},
    )
    write_model_card(folder, run)
    text = (folder / "README.md").read_text() + (folder / "run.json").read_text()
    assert "hf_secret" not in text and "/home/ann" not in text
    assert "--output_dir=out --data_dir mnre" in run["command"] and run["data"] == {"dataset": "posts"}


def test_calibration_figures_and_random_features_appear_when_there_are_any(folder, write_run_files):
    sections = "## Calibration", "## Figures", "random weights"
    plain = model_card(folder).text
    assert not any(section in plain for section in sections) and "are not calibrated" in plain
    write_run_files(folder, test_ece=0.12, calibration={"temperature": 1.5}, data={"features": "random:0"})
    (folder / "figures").mkdir()
    (folder / "figures" / "reliability_diagram.png").write_bytes(b"")
    card = write_model_card(folder).read_text()
    assert all(section in card for section in sections) and "(figures/reliability_diagram.png)" in card
    assert read_tables(card)["test_ece"] == "0.1200" and read_tables(card)["calibration_temperature"] == "1.5000"
    assert check_card(folder) == []


def test_the_pipeline_is_shown_only_where_the_folder_has_one(folder):
    task = "multimodal-relation-classification"
    assert "pipeline(" not in model_card(folder).text and model_card(folder).data.pipeline_tag is None
    change(folder / "config.json", custom_pipelines={task: {}})
    text = model_card(folder, repo_id="ann/tiny").text
    assert f'pipeline("{task}", model=repo_id, trust_remote_code=True)' in text
    assert model_card(folder).data.pipeline_tag == task
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(block, "card", "exec")


def test_the_code_of_the_card_answers_as_the_pipeline_does(
    folder, make_model, make_processor, make_pipe, monkeypatch, capsys
):
    """Of a model that was calibrated, and whose bias makes another label the likeliest."""
    model = make_model("text_only")
    processor, post = make_processor(model.config), {"text": "Ann Keller and Bob Haas back home in Oslo"}
    with torch.no_grad():
        logits = model(**processor(post | {"pairs": [{"head": "Ann Keller", "tail": "Oslo"}]})).logits[0]
    none = model.config.label2id[model.config.none_label]
    others = logits[torch.arange(len(logits)) != none]
    model.config.none_bias = float(others.max() - logits[none]) + (1 if logits.argmax() != none else -1)
    model.config.calibration_temperature = 2.5
    for name, saved in (("AutoProcessor", processor), ("AutoModelForSequenceClassification", model)):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", lambda *args, saved=saved, **_: saved)
    exec(re.search(r"```python\n(.*?)```", model_card(folder).text, flags=re.DOTALL)[1], {})
    relation, probability = capsys.readouterr().out.split()
    answer = make_pipe(model=model)(post | {"head": "Ann Keller", "tail": "Oslo"})
    assert relation == answer["relation"] != model.config.id2label[int(logits.argmax())]
    assert float(probability) == pytest.approx(answer["score"], abs=1e-6)


@pytest.mark.parametrize("has_head", [True, False, None])
def test_the_card_says_whether_the_model_finds_entities_and_turns_labels(folder, has_head):
    change(folder / "config.json", custom_pipelines={"relation": {}})
    if has_head is not None:
        change(folder / "config.json", mentions=has_head, order_blind=has_head)
    text = model_card(folder).text
    assert ("also finds the entities" in text, "or finds" in text, "` (inverse)`" in text) == (bool(has_head),) * 3
    assert ("is given the entities" in text, "it finds no entities" in text) == (not has_head,) * 2


@pytest.mark.parametrize("name", ["metrics.json", "config.json", "run.json"])
@pytest.mark.parametrize("content, received", [("", "none that can be read"), ("[1]", "list")])
def test_an_unfinished_folder_is_an_error(folder, name, content, received):
    with pytest.raises(ValueError, match="README.md"):
        check_card(folder)
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{received}"):
        read_metadata(folder)


def test_what_the_model_has_counts_and_not_what_its_flags_asked_for(folder, write_run_files):
    write_run_files(folder, model={"num_objects": 99}, data={"no_visual": True})
    change(folder / "config.json", num_objects=0)
    assert "| `num_objects` | 0 |" in model_card(folder).text
