"""run_mmre.py end to end on a handful of postcards and a tiny random BERT: files, flags, resume, processes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from more_files import write
from paths import ROOT
from published_files import write_mnre
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, TrainingArguments, pipeline

import run_mmre
from datasets_scripts.configs import read_entries
from datasets_scripts.leaks import ORDER_BLIND, leak_status
from datasets_scripts.recipes import mark_recipe
from datasets_scripts.registry import BUILDERS
from model_cards.checking import check_card
from model_cards.publishing import publishable_files
from modeling_vmhan import VMHANProcessor
from vmhan.scoring.calibration import reliability
from vmhan.scoring.scorer import score
from vmhan.training import evaluate, text_encoders
from vmhan.training.arguments import RunArguments, parse_arguments
from vmhan.training.building.models import build_model, how_to_take_pictures, vision_of
from vmhan.training.loop.trainer import RelationTrainer, train
from vmhan.training.posts.data import load_posts
from vmhan.training.results import write_results


def checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def last_logs(output: Path) -> list[dict]:
    return json.loads((checkpoints(output)[-1] / "trainer_state.json").read_text())["log_history"]


def rows_of(output: Path, split: str = "test") -> list[dict]:
    rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


def config_of(output: Path):
    return AutoConfig.from_pretrained(output)


@pytest.fixture(scope="module")
def parsed(workplace):
    """`parsed(*flags)`: the three groups of arguments of the tiny configuration."""
    return lambda *flags: parse_arguments([str(workplace / "tiny.yaml"), "--output_dir", "x", *flags])


@pytest.fixture(scope="module")
def posts(parsed):
    return load_posts(*parsed()[1:])


def test_metrics_are_flat_fractions_that_predictions_score_to(finished):
    output, metrics = finished
    written, config = json.loads((output / "metrics.json").read_text()), config_of(output)
    assert written == metrics and written["leaky"] is False and "seed" in written
    assert written.pop("precision_table", None) == config.precision_table
    assert all(isinstance(value, (int, float)) for value in written.values())
    for split in ("validation", "test"):
        rows = rows_of(output, split)
        gold, predicted = ([row[name] for row in rows] for name in ("relation", "predicted"))
        scores = score(gold, predicted, labels=config.labels)
        for name in ("f1", "accuracy", "precision", "recall"):
            assert 0 <= scores[name] <= 1 and metrics[f"{split}_{name}"] == pytest.approx(scores[name])
        assert all(sum(row["probabilities"]) == pytest.approx(1, abs=1e-4) for row in rows)
        bins = reliability([row["probabilities"] for row in rows], [config.label2id[name] for name in gold])
        assert metrics[f"{split}_ece"] == pytest.approx(bins.expected_calibration_error, abs=1e-4)
        assert {f"{split}_{n}{s}" for n in ("ece", "nll", "brier") for s in ("", "_before")} <= set(metrics)
    assert config.calibration_temperature == metrics["temperature"] != 1.0  # fitted on validation
    assert metrics["validation_nll"] <= metrics["validation_nll_before"]
    environment = json.loads((output / "environment.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert environment["git_revision"] is None or re.fullmatch("[0-9a-f]{40}", environment["git_revision"])
    total = metrics["train_seconds_per_epoch"] * metrics["epoch"]
    assert 0 < total <= metrics["train_runtime"] and metrics["train_processor_seconds_per_epoch"] > 0


def test_the_saved_folder_and_its_pipeline_say_what_predictions_jsonl_says(finished, posts):
    """By the saved folder alone, rows of the data set being questions as they are."""
    output, _ = finished
    model = AutoModelForSequenceClassification.from_pretrained(output).eval()
    with torch.no_grad():
        logits = model(**VMHANProcessor.from_pretrained(output)(list(posts["test"]))).logits
    expected = torch.tensor([row["probabilities"] for row in rows_of(output)])
    calibrated = (logits / model.config.calibration_temperature).softmax(dim=-1)
    torch.testing.assert_close(calibrated, expected, atol=1e-5, rtol=0)
    answers = pipeline(model=str(output), device="cpu")(posts["test"], batch_size=3)
    tokens = {post["id"]: post["tokens"] for post in posts["test"]}
    for row, answer in zip(rows_of(output), sum(answers, []), strict=True):
        assert row["head"] == " ".join(tokens[row["id"]][slice(*row["head_span"])])
        assert row["tail"] == " ".join(tokens[row["id"]][slice(*row["tail_span"])])
        assert answer["relation"] == row["predicted"] and answer["score"] == pytest.approx(row["score"], abs=1e-5)
        assert (answer["head"], answer["tail"]) == (row["head"], row["tail"])


@pytest.fixture(scope="module")
def seeing(workplace, make_vision_config):
    """A run with its example that does not say --visual; (output folder, flags)."""
    AutoModel.from_config(make_vision_config()).save_pretrained(workplace / "vision")
    entries = yaml.safe_load((workplace / "tiny.yaml").read_text())
    (workplace / "seeing.yaml").write_text(yaml.safe_dump({k: v for k, v in entries.items() if k != "visual"}))
    flags = [str(workplace / "seeing.yaml"), "--features", f"transformers:{workplace / 'vision'}"]
    flags += ["--output_dir", str(workplace / "seeing")]
    run_mmre.main([*flags, "--do_train", "false", "--show_example", "true"])
    return workplace / "seeing", flags


def test_with_its_vision_encoder_the_saved_folder_takes_pictures(workplace, seeing):
    """The same answers from the picture as from the features in the data, which are rounded to float16."""
    output, flags = seeing
    posts = load_posts(*parse_arguments(flags)[1:])["test"].remove_columns(["image_features", "object_features"])
    pipe, rows = pipeline(model=str(output), device="cpu"), rows_of(output)
    answers = list(pipe(posts, batch_size=2))
    for row, answer in zip(rows, sum(answers, []), strict=True):
        assert answer["score"] == pytest.approx(row["score"], abs=2e-3)
    question = json.loads((output / "example.json").read_text())
    assert "gold_objects" not in question  # which is for evaluation alone
    asked = next(i for i, post in enumerate(posts) if post["id"] == question["id"])
    answered = pipe({**question, "image": str(output / question["image"])})
    assert [a["score"] for a in answered] == pytest.approx([a["score"] for a in answers[asked]], abs=1e-4)
    assert "relation" not in question["pairs"][0]
    posts.to_parquet(workplace / "pictures" / "test.parquet")
    data = ["--dataset", str(workplace / "pictures"), "--features=", "--output_dir", str(workplace / "asked")]
    evaluate.main([str(output), str(workplace / "tiny.yaml"), *data])
    assert [r["score"] for r in rows_of(workplace / "asked")] == pytest.approx([r["score"] for r in rows], abs=2e-3)


def test_vision_weights_by_reference_are_those_that_others_can_find(seeing, thin_vgg16, tmp_path):
    _, flags = seeing
    flags = [*flags, "--output_dir", str(tmp_path), "--save_vision"]

    def config_with(*given):
        model_args, data_args, run_args = parse_arguments([*flags, *given])
        return build_model(model_args, data_args, load_posts(data_args, run_args, model_args.reads))[0].config

    public = config_with("reference", "--features", "vgg16:random:0", "--feature_size_px", "32")
    assert (public.vision_encoder, public.vision_weights["name"]) == ("vgg16", "random:0")
    assert config_with("weights").vision_weights is None
    for given, match in (
        (["reference"], "received the path .*vision"),
        (["reference", "--visual", "none"], "--save_vision reference"),
        (["inside"], "--save_vision: .*'inside'"),
    ):
        with pytest.raises(ValueError, match=match):
            config_with(*given)


@pytest.mark.parametrize(("preset", "said"), [("no_kl", "{'kl_loss_weight': 0.0}"), ("full", None)])
def test_a_preset_stands_over_a_flag_and_says_so(seeing, tmp_path, caplog, preset, said):
    flags = ["--output_dir", str(tmp_path), "--preset", preset, "--kl_loss_weight", "0.1"]
    model_args, data_args, run_args = parse_arguments([*seeing[1], *flags])
    with caplog.at_level("INFO"):
        model, _ = build_model(model_args, data_args, load_posts(data_args, run_args, model_args.reads))
    assert model.config.kl_loss_weight == (0.0 if said else 0.1)
    assert (said or "") in caplog.text and ("stands over" in caplog.text) == bool(said)


def test_an_encoder_that_cannot_be_had_is_not_saved_and_the_log_says_what_to_do(seeing, workplace, tmp_path, caplog):
    output, flags = seeing
    assert json.loads((output / "run.json").read_text())["data"]["visual"] == "pixels"
    model_args, data_args, run_args = parse_arguments([*flags, "--output_dir", str(tmp_path)])
    posts = load_posts(data_args, run_args, model_args.reads)
    named = [split.info.description for split in posts.values()]
    for split, description in zip(posts.values(), named):
        split.info.description = description.replace(str(workplace / "vision"), str(tmp_path / "gone"))
    model, _ = build_model(model_args, data_args, posts)
    assert data_args.visual == "features" and model.config.vision_encoder is None
    assert "cannot be saved with the model" in caplog.text and "gone" in caplog.text
    for description, visual, flag in ((named[0], "features", "--visual pixels"), ("", "features", "--features")):
        for split in posts.values():
            split.info.description = description
        data_args.visual = visual
        assert flag in how_to_take_pictures(model.config, data_args, posts)
    model.config.visual_feature_size, data_args.visual = 0, "none"
    assert "leave --visual none out" in how_to_take_pictures(model.config, data_args, posts)
    assert how_to_take_pictures(config_of(output), data_args, posts) is None


def test_a_saved_folder_names_no_folder_of_this_machine(workplace, seeing, finished):
    """Not even in example.json, which points beside itself; run.json keeps what --features was, to make them again."""
    for output in (seeing[0], finished[0]):
        assert (output / "example.png").read_bytes().startswith(b"\x89PNG")
        for file in output.glob("*.json"):
            text = file.read_text()
            if file.name == "run.json":
                run = json.loads(text)
                text = json.dumps({**run, "data": {**run["data"], "features": ""}})
            assert str(workplace) not in text and "/home" not in text, file.name
    assert json.loads((seeing[0] / "example.json").read_text())["image"] == "example.png"


def test_the_recipe_of_the_data_is_the_model_s_and_its_processor_s(parsed):
    model_args, data_args, run_args = parsed()
    posts = load_posts(data_args, run_args, model_args.reads)
    assert build_model(model_args, data_args, posts)[0].config.recipe is None  # postcards choose by themselves
    for split in posts.values():
        mark_recipe(split.info, selector="heuristic", detector="torchvision:x")
    model, processor = build_model(model_args, data_args, posts)
    assert model.config.recipe == processor.recipe == {"selector": "heuristic", "detector": "torchvision:x"}


def test_a_vision_encoder_that_nobody_named_is_an_error(parsed):
    posts = load_posts(*parsed()[1:])
    for split in posts.values():
        split.info.description = "features of unknown origin"
    with pytest.raises(ValueError, match="--visual pixels"):
        vision_of(posts)


def test_without_matplotlib_everything_else_is_written(finished, posts, monkeypatch, caplog, tmp_path):
    output, metrics = finished
    config, first = config_of(output), posts["test"].take(1)
    zeros = torch.zeros(1, len(first[0]["pairs"]), len(config.labels)).numpy()
    result = SimpleNamespace(predictions=zeros, label_ids=zeros[..., 0].astype(int))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_results(tmp_path, metrics, {"test": result}, {"test": first}, config, {})
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "metrics.json", "predictions.jsonl"}
    assert "vmhan[report]" in caplog.text


def test_the_output_is_a_complete_repository_whose_card_agrees_with_it(finished):
    output, metrics = finished
    names = {path.name for path in output.iterdir() if path.is_file()}
    assert {"config.json", "model.safetensors", "modeling_vmhan.py", "configuration_vmhan.py", "vision.py"} <= names
    assert {"processing_vmhan.py", "tokenizer.json", "processor_config.json"} <= names
    assert "AutoModelForSequenceClassification" in json.loads((output / "config.json").read_text())["auto_map"]
    card = ModelCard((output / "README.md").read_text())
    assert check_card(output) == []
    results = {f"{r.dataset_split}_{r.metric_type}": r.metric_value for r in card.data.eval_results}
    assert results["test_f1"] == metrics["test_f1"] and card.data.base_model is None
    assert "--show_example true" in card.text and "| `learning_rate` | 0.001 |" in card.text
    files = publishable_files(output)  # no checkpoint, pickle, picture of the data
    assert list(output.glob("checkpoint-*/*.bin")) and (output / "example.png").is_file()
    assert not {"example.png", "run.json", "predictions.jsonl"} & set(files)
    assert [name for name in files if "/" in name] == ["figures/reliability.png"]
    assert not [name for name in (*files, *names) if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


def test_the_loss_parts_sum_to_the_loss_and_the_best_checkpoint_is_restored(finished):
    output, metrics = finished
    logs, config = last_logs(output), config_of(output)
    assert metrics["validation_f1"] == pytest.approx(max(row["eval_f1"] for row in logs if "eval_f1" in row))
    for row in [row for row in logs if "loss" in row]:
        total = config.relation_loss_weight * row["relation_loss"] + config.kl_loss_weight * row["kl_loss"]
        total += config.reconstruction_loss_weight * row["reconstruction_loss"]
        assert total == pytest.approx(row["loss"], abs=1e-3)


CONFIGS = sorted(set((ROOT / "configs").glob("*.yaml")) - {ROOT / "configs" / "search_space.yaml"})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_parses(config, tmp_path):
    model_args, data_args, run_args = parse_arguments([str(config), "--output_dir", str(tmp_path)])
    prepared = {read_entries(path)["output_dir"] for path in (ROOT / "configs" / "prepare").glob("*.yaml")}
    assert data_args.dataset in {*BUILDERS, *prepared}
    assert run_args.do_train and run_args.metric_for_best_model == "f1" and not run_args.remove_unused_columns
    if config.stem == "mnre_paper":
        training = (run_args.learning_rate, run_args.weight_decay, run_args.per_device_train_batch_size)
        assert training == (2e-5, 0.01, 16) and model_args.text_encoder == "bert-base-uncased"
        assert (model_args.classifier_dropout, model_args.num_objects, model_args.max_length) == (0.6, 3, 128)
        assert (model_args.num_text_phrases, model_args.num_image_phrases) == (3, 3)


def test_flags_stand_over_the_file_whose_empty_fields_keep_their_default(tmp_path):
    entries = {"captions": None, "resume_from_checkpoint": False, "output_dir": "x", "model": "cnn", "num_train": 5}
    entries |= {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0.5}}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({**entries, "model_kwargs": {"word_vectors": "a.txt"}}))
    model_args, data_args, run_args = parse_arguments([str(tmp_path / "odd.yaml"), "--num_train", "3"])
    assert (data_args.captions, data_args.num_train) == (None, 3)
    assert run_args.lr_scheduler_kwargs == {"min_lr": 0.5} and model_args.model_kwargs == {"word_vectors": "a.txt"}


def test_pixels_for_a_baseline_without_a_vision_encoder_are_features_with_a_warning(parsed, caplog):
    assert parsed("--model", "visualbert", "--visual", "pixels")[1].visual == "features"
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert all(w in record.getMessage() for w in ("--model visualbert", "--visual pixels", "--visual features"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_obj", "3"], "--num_obj .*'--num_objects'"),
        (["--early_stopping_patience", "0"], "--early_stopping_patience: received 0"),
        (["--max_samples", "-1"], "--max_samples .* -1"),
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor: received 0.1"),
        (["--tokens_per_batch", "0"], "--tokens_per_batch: received 0"),
        (["--visual", "pixel"], "--visual.*'pixel'.*'pixels'"),
        (["--visual", "none", "--visual_share", "0.5"], "--visual none .*--visual_share 0.5"),
        (["--visual", "features", "--model", "hvpnet"], "--model hvpnet .*--visual features"),
        (["--visual", "none", "--model", "visualbert"], "--model visualbert .*--visual none"),
        (["--model_kwargs", "3"], "--model_kwargs: .* 3"),
        (["--model_kwargs", "{pyramid_size: 3}", "--model", "hvpnet"], "--model_kwargs.*'pyramid_size_px'"),
        (["--push_to_hub", "true", "--hub_revision", "dev"], "--hub_revision: received 'dev'"),
        (["--push_to_hub", "true", "--hub_strategy", "all_checkpoints"], "--hub_strategy: .*all_checkpoints"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_an_error_that_names_the_flags(parsed, flags, message):
    with pytest.raises(ValueError, match=message):
        parsed(*flags)


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "bad.yaml .* list"), ("lerning_rate: 0.1", "--lerning_rate")])
def test_a_file_that_is_no_mapping_or_has_an_unknown_key_is_an_error(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_arguments([str(tmp_path / "bad.yaml"), "--output_dir", "x"])


def test_leaky_data_are_said_to_be_so_in_the_metrics(workplace, tmp_path):
    """The published objects of MNRE, from a folder in their format; also under the flags that change the rows."""
    write_mnre(tmp_path / "mnre", num_posts=6)
    entries = {"dataset": "mnre_published_objects", "data_dir": str(tmp_path / "mnre"), "max_samples": 4}
    entries |= {"text_encoder": str(workplace / "encoder"), "cache_dir": str(workplace / "cache"), "visual": "none"}
    entries |= {"use_cpu": True, "do_train": False, "disable_tqdm": True}
    (tmp_path / "leaky.yaml").write_text(yaml.safe_dump(entries))
    run_mmre.main([str(tmp_path / "leaky.yaml"), "--output_dir", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["leaky"] is True and "mre_*_dict.pth" in written["leak_reasons"][0]
    flags = ["--output_dir", str(tmp_path / "out"), "--phrase_text", "true"]
    assert len(leak_status(load_posts(*parse_arguments([str(tmp_path / "leaky.yaml"), *flags])[1:]))) == 2


@pytest.mark.parametrize("model", ["vmhan", "mtb"])
def test_order_blind_data_make_an_order_blind_model_that_says_so(workplace, tmp_path, model):
    mentions = {"h": {"name": "Ann", "pos": [0, 1]}, "t": {"name": "Oslo", "pos": [3, 4]}}
    facts = [
        {"token": "Ann lives in Oslo".split(), **mentions, "img_id": f"{i}.jpg", "relation": relation}
        for i, relation in enumerate(["/per/loc/place_of_residence", "None"] * 4)
    ]
    for split in ("train", "val", "test"):
        write(tmp_path / "mnre" / "mnre_txt" / f"mnre_{split}.txt", *map(str, facts))
    entries = {"dataset": "mnre_order_blind", "data_dir": str(tmp_path / "mnre"), "model": model, "visual": "none"}
    entries |= {"text_encoder": str(workplace / "encoder"), "cache_dir": str(workplace / "cache")}
    entries |= {"use_cpu": True, "do_train": False, "disable_tqdm": True}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(entries))
    output = tmp_path / "out"
    metrics = run_mmre.main([str(tmp_path / "run.yaml"), "--output_dir", str(output)])
    assert config_of(output).order_blind and VMHANProcessor.from_pretrained(output).order_blind
    assert metrics["protocol"] == ORDER_BLIND
    if model == "vmhan":
        assert config_of(output).functional_relations == ["/per/loc/place_of_birth"]
        assert f"Protocol of the data: **{ORDER_BLIND}**" in (output / "README.md").read_text()
        pipe = pipeline(model=str(output))
        first, second = (pipe({"text": "Ann lives in Oslo", "head": h, "tail": t}) for h, t in
                         (("Ann", "Oslo"), ("Oslo", "Ann")))  # fmt: skip
        assert first == second


@pytest.mark.parametrize(
    "flags", [("--visual", "none"), ("--preset", "text_only"), ("--preset", "text_only", "--visual", "pixels")]
)
def test_a_text_only_model_sees_nothing_of_the_image(flags, parsed):
    model_args, data_args, run_args = parsed(*flags)
    posts = load_posts(data_args, run_args)
    assert not {"image", "image_features", "boxes", "caption"} & set(posts["train"].column_names)
    model, _ = build_model(model_args, data_args, posts)
    assert model.config.visual_feature_size == 0 and model.vmhan.visual_projection is None


NO_EVALUATION = ("--eval_strategy", "no", "--load_best_model_at_end", "false")


def test_each_parameter_has_its_rate_and_only_matrices_decay(parsed, posts, tmp_path):
    """Biases and what a norm scales with must not decay: a step without gradients leaves them as they are."""
    flags = [*NO_EVALUATION, "--output_dir", str(tmp_path), "--weight_decay", "0.5"]
    model_args, data_args, run_args = parsed(*flags)
    model, _ = build_model(model_args, data_args, posts)
    optimizer = RelationTrainer(model=model, args=run_args).create_optimizer()
    groups = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == sum(p.requires_grad for p in model.parameters())
    kinds = (nn.LayerNorm, nn.BatchNorm1d)
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}
    free = {name for name, _ in model.named_parameters() if name.endswith("bias") or name in norms}
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert norms and {"classifier.bias", "vmhan.text_encoder.embeddings.LayerNorm.weight"} <= free
    for name, parameter in model.named_parameters():
        rate, decay = groups[id(parameter)]
        assert rate == (0.001 if "text_encoder." in name else 0.01), name
        assert decay == (0 if name in free else 0.5), name
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - rate * decay), msg=name)


@pytest.mark.parametrize(
    ("capability", "bf16", "warns"),
    [("avx2", True, 1), ("avx512_f", True, 1), ("avx2", False, 0), ("avx512_bf16", True, 0), ("amx_bf16", True, 0)],
)
def test_bf16_on_a_processor_that_emulates_it_is_warned_of(tmp_path, monkeypatch, caplog, capability, bf16, warns):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    run_args = RunArguments(output_dir=str(tmp_path), use_cpu=True, bf16=bf16)
    trainer = RelationTrainer(model=nn.Linear(1, 1), args=run_args)
    monkeypatch.setattr(trainer, "train", lambda **_: SimpleNamespace(metrics={"said": caplog.text}))
    assert train(trainer, run_args)["said"].count("--bf16 false") == warns  # before the first step


def test_the_trainer_of_a_loop_of_ones_own_wants_its_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"args must be .*RunArguments.*received TrainingArguments"):
        RelationTrainer(model=nn.Linear(1, 1), args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True))


def test_an_interrupted_run_resumes_to_the_same_end(workplace, finished, tmp_path):
    """Stopped after the first epoch (its last checkpoint removed), then resumed: same metrics as without a stop."""
    output, metrics = finished
    interrupted = tmp_path / "interrupted"
    first = checkpoints(output)[0]
    shutil.copytree(first, interrupted / first.name)
    state_path = interrupted / first.name / "trainer_state.json"
    state = json.loads(state_path.read_text())
    state["best_model_checkpoint"] = str(interrupted / first.name)
    state_path.write_text(json.dumps(state))
    command = [str(workplace / "tiny.yaml"), "--output_dir", str(interrupted), "--resume_from_checkpoint", "true"]
    resumed = run_mmre.main(command)
    assert resumed["test_loss"] == pytest.approx(metrics["test_loss"], abs=1e-5)
    assert resumed["validation_f1"] == pytest.approx(metrics["validation_f1"])
    assert "train_loss" in metrics and not {"train_loss", "train_runtime"} & set(resumed)  # of one epoch only
    again = run_mmre.main(command)  # nothing is left to train: what metrics.json has of it is kept
    assert again["train_seconds_per_epoch"] == resumed["train_seconds_per_epoch"]


TWO_PROCESSES = ["--do_train", "false", "--load_best_model_at_end", "false", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def launched(workplace, hub, tmp_path_factory):
    """Output folder of accelerate launch with two CPU processes, published as ann/launched."""
    folder = tmp_path_factory.mktemp("launched")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    script = [str(ROOT / "run_mmre.py"), str(workplace / "tiny.yaml"), "--output_dir", str(folder / "two")]
    script += [*TWO_PROCESSES, "--ddp_backend", "gloo", "--push_to_hub", "true", "--hub_model_id", "ann/launched"]
    environment = {**hub.environment(folder / "home"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launch, *script], capture_output=True, text=True, env=environment, cwd=folder, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "two"


def test_two_processes_evaluate_like_one(workplace, launched, tmp_path):
    """The same scores as one process, on splits that do not divide evenly."""
    one = run_mmre.main([str(workplace / "tiny.yaml"), "--output_dir", str(tmp_path), *TWO_PROCESSES])
    two = json.loads((launched / "metrics.json").read_text())
    for name in ("validation_f1", "validation_accuracy", "validation_loss", "test_f1", "test_precision", "test_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    assert one["test_loss"] == pytest.approx(one["test_nll_before"], rel=1e-5)  # over pairs, however they are batched
    assert [row["id"] for row in rows_of(tmp_path)] == [row["id"] for row in rows_of(launched)]


def test_two_processes_publish_once(launched, hub):
    repo = hub.repos["model", "ann/launched"]
    assert len(repo.commits) == 2 and sum("/commit/" in request for request in hub.requests) == 1
    assert set(repo.files) == set(publishable_files(launched)) >= {"model.safetensors", "metrics.json", "README.md"}
    assert repo.files["README.md"] == (launched / "README.md").read_bytes()
    assert "--hub_model_id ann/launched" in repo.files["README.md"].decode()


def test_a_wrong_token_is_told_before_training(workplace, tmp_path, monkeypatch):
    def refuse(token):
        raise PermissionError(f"refused {token}")

    monkeypatch.setattr("vmhan.training.command.check_access", refuse)
    monkeypatch.setattr("vmhan.training.command.load_posts", lambda *arguments: pytest.fail("the run went on"))
    flags = ["--output_dir", str(tmp_path), "--push_to_hub", "true", "--hub_token", "hf_wrong"]
    with pytest.raises(PermissionError, match="refused hf_wrong"):
        run_mmre.main([str(workplace / "tiny.yaml"), *flags])


def test_the_offline_encoder_is_checked(monkeypatch):
    monkeypatch.setattr(text_encoders, "OFFLINE_ENCODER_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sha256 53aa51172d14"):
        text_encoders.resolve_text_encoder(text_encoders.OFFLINE_ENCODER)
