"""Training at scale: token budgets in a run, streams, two processes, the configurations of accelerate."""

import json
import os
import socket
import traceback
from multiprocessing import get_context

import datasets
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, GradientState, PartialState
from paths import ROOT
from scaling_posts import scaling_posts
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import BertModel

import run_mmre
from modeling_vmhan import VMHANCollator
from vmhan.training.arguments import RunArguments, parse_arguments
from vmhan.training.loop.trainer import RelationTrainer
from vmhan.training.posts.data import load_posts, with_lengths


LAYERS = "fsdp_transformer_layer_cls_to_wrap"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, make_text_config, tokenizer):
    """A YAML config around a tiny text encoder, and posts in Parquet; nothing is drawn at random."""
    folder = tmp_path_factory.mktemp("scaling")
    torch.manual_seed(0)
    BertModel(make_text_config()).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    for seed, split in enumerate(("train", "validation", "test")):
        scaling_posts(12 if split == "train" else 5, seed).to_parquet(folder / "posts" / f"{split}-0.parquet")
    entries = {"text_encoder": "encoder", "dataset": "posts", "cache_dir": "cache"}
    entries = {name: str(folder / place) for name, place in entries.items()}
    entries |= {"entity_representation": "packed", "classifier_dropout": 0.0, "learning_rate": 0.01}
    entries |= {"num_train_epochs": 2, "per_device_train_batch_size": 3, "train_sampling_strategy": "sequential"}
    entries |= {"do_train": True, "use_cpu": True, "logging_steps": 1, "disable_tqdm": True}
    entries |= {"save_strategy": "no", "eval_strategy": "no"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    return folder / "tiny.yaml"


def run(recipe, output, **flags):
    return run_mmre.main([str(recipe), "--output_dir", str(output), *(f"--{k}={v}" for k, v in flags.items())])


def losses(output):
    state = json.loads(max(output.glob("checkpoint-*/trainer_state.json"), key=os.path.getmtime).read_text())
    return [row["loss"] for row in state["log_history"] if "loss" in row]


def test_a_run_of_a_token_budget_resumes_in_mid_epoch_to_the_same_end(recipe, tmp_path):
    flags = {"tokens_per_batch": 60, "train_sampling_strategy": "group_by_length", "save_strategy": "steps"}
    whole = run(recipe, tmp_path / "whole", save_steps=3, **flags)
    steps = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "whole").glob("checkpoint-*"))
    assert steps[0] == 3 < steps[-1] // 2  # in the midst of the first of two epochs
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "checkpoint-3").rename(tmp_path / "again" / "checkpoint-3")
    resumed = run(recipe, tmp_path / "again", save_steps=100, resume_from_checkpoint="true", **flags)
    assert resumed["test_loss"] == pytest.approx(whole["test_loss"], abs=1e-6)
    answers = [(tmp_path / name / "predictions.jsonl").read_text() for name in ("whole", "again")]
    assert answers[0] == answers[1]


def test_with_a_budget_evaluation_keeps_the_order_and_the_answers(recipe, tmp_path):
    rows = []
    for name, flags in {"posts": {}, "tokens": {"tokens_per_batch": 40}}.items():
        run(recipe, tmp_path / name, do_train="false", **flags)
        rows.append(map(json.loads, (tmp_path / name / "predictions.jsonl").read_text().splitlines()))
    for one, other in zip(*rows, strict=True):
        assert (one["id"], one["pair"]) == (other["id"], other["pair"])
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_pictures_with_features_are_not_decoded_for_training(tmp_path):
    posts = scaling_posts(2).remove_columns("image_id")
    damaged = datasets.Features({**posts.features, "image": datasets.Image()})
    posts = datasets.Dataset.from_list([{**row, "image": {"bytes": b"no picture"}} for row in posts], features=damaged)
    run_args = RunArguments(output_dir=str(tmp_path), use_cpu=True)
    trainer = RelationTrainer(model=torch.nn.Linear(1, 1), args=run_args, train_dataset=posts, data_collator=list)
    assert {"image" in row for batch in trainer.get_train_dataloader() for row in batch} == {False}
    rows = posts.cast_column("image", datasets.Image(decode=False))
    rows = [{**row, "image_features": None} for row in rows]
    trainer.train_dataset = datasets.Dataset.from_list(rows, features=damaged)
    with pytest.raises(Exception, match="cannot identify image file"):
        list(trainer.get_train_dataloader())


@pytest.fixture(autouse=True)
def no_rest_after_a_stream(monkeypatch):
    """`datasets` sleeps for 5 seconds when a stream that several threads read ends."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.2, raising=False)


def test_a_stream_trains_and_evaluates_like_stored_posts(recipe, tmp_path):
    flags = {"max_steps": 6, "save_strategy": "steps", "save_steps": 6}
    stored = run(recipe, tmp_path / "stored", **flags)
    streamed = run(recipe, tmp_path / "streamed", streaming="true", shuffle_buffer=0, **flags)
    assert losses(tmp_path / "streamed") == pytest.approx(losses(tmp_path / "stored"), abs=1e-5)
    assert streamed["test_loss"] == pytest.approx(stored["test_loss"], abs=1e-5)
    assert streamed["test_f1"] == stored["test_f1"]


def test_a_stream_is_shuffled_by_the_seed_and_cut_like_stored_posts(recipe, tmp_path):
    def ids(*flags):
        arguments = [str(recipe), "--output_dir", str(tmp_path), "--streaming", "true", "--max_steps", "1", *flags]
        posts = load_posts(*parse_arguments(arguments)[1:])
        assert isinstance(posts["validation"], datasets.Dataset) and len(posts["validation"]) <= 5
        return [post["id"] for post in posts["train"]]

    first, ordered = ids(), ids("--shuffle_buffer", "0")
    assert sorted(first) == sorted(ordered) and first != ordered
    assert first == ids() != ids("--seed", "7")
    assert sorted(ids("--max_samples", "2")) == sorted(ordered[:2])  # cut before it is shuffled


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--streaming.*--max_steps -1"),
        (["--max_steps", "2", "--dataset", "mnre"], "--streaming.* --dataset mnre"),
        (["--max_steps", "2", "--generated_images", "drawn"], "--streaming.* --generated_images"),
        (["--max_steps", "2", "--tokens_per_batch", "99"], "--streaming.* --tokens_per_batch 99"),
    ],
)
def test_what_a_stream_cannot_do_is_an_error(recipe, flags, message):
    _, data_args, run_args = parse_arguments([str(recipe), "--output_dir", "x", "--streaming", "true", *flags])
    with pytest.raises(ValueError, match=message):
        load_posts(data_args, run_args)


def train_and_log(make_model, make_processor, folder, *, accumulation, tokens, backend=None):
    """Training logs of two epochs over eight posts, and the running statistics the model is evaluated with."""
    model = make_model()
    processor = make_processor(model.config)
    options = {"tokens_per_batch": 80} if tokens else {"train_sampling_strategy": "sequential"}
    options |= {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 2, "ddp_backend": backend}
    options |= {"num_train_epochs": 2, "learning_rate": 0.01, "logging_steps": 1, "save_strategy": "no"}
    run_args = RunArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **options)
    posts = with_lengths(datasets.DatasetDict(train=scaling_posts(8)), processor, run_args)["train"]
    collator = VMHANCollator(processor, model.config.label2id)
    trainer = RelationTrainer(model=model, args=run_args, train_dataset=posts, data_collator=collator)
    trainer.train()
    trainer.predict(posts)
    statistics = [buffer.tolist() for name, buffer in model.named_buffers() if "running" in name]
    return [row for row in trainer.state.log_history if "loss" in row], statistics


def one_of_two(rank, port, folder, act):
    try:
        local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update({k: str(v) for k, v in {**local, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items()})
        for state in (PartialState, AcceleratorState, GradientState):  # the child has its parent's, of one process
            state._reset_state()
        torch.set_num_threads(1)
        result = act(rank)
        assert torch.distributed.get_world_size() == 2
        (folder / f"{rank}.json").write_text(json.dumps(result))
        torch.distributed.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
    os._exit(0)


def in_two_processes(folder, act):
    """What `act(rank)` gives in each of two, with the environment that accelerate launch gives them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [get_context("fork").Process(target=one_of_two, args=(rank, port, folder, act)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert not list(folder.glob("*.error")), next(folder.glob("*.error")).read_text()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("tokens", [False, True], ids=["posts", "tokens"])
def test_two_processes_have_the_losses_of_one_with_doubled_accumulation(make_model, make_processor, tmp_path, tokens):
    """Batch for batch: with features on, as each of a batch's statistics is its own, on one process and on two."""

    def train(rank):
        return train_and_log(make_model, make_processor, tmp_path, accumulation=1, tokens=tokens, backend="gloo")

    (two, statistics), (_, others) = in_two_processes(tmp_path, train)
    one, _ = train_and_log(make_model, make_processor, tmp_path / "one", accumulation=2, tokens=tokens)
    assert len(one) == len(two) >= 4
    for name in ("loss", "relation_loss", "kl_loss", "reconstruction_loss"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], abs=1e-4), name
    assert len({row["loss"] for row in one}) > 2
    assert statistics and statistics == others


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_model_whose_weights_are_shared_out_has_the_losses_of_a_whole_one(make_model, make_processor, tmp_path):
    """FSDP2 over two CPU processes by torch itself, cut as the shipped file cuts it: accelerate's FSDP wants GPUs."""
    processor = make_processor(make_model().config)
    batches = [processor(list(scaling_posts(2, seed)), label2id=make_model().config.label2id) for seed in range(8)]

    def steps(model, take, average=lambda loss: loss):
        """Losses of four steps, each over the batches that `take(step)` names."""
        optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.01), []
        for step in range(4):
            parts = [model(**batches[i]).loss / len(take(step)) for i in take(step)]
            sum(parts).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(average(sum(part.detach() for part in parts))))
        return losses

    def sharded(rank):
        torch.distributed.init_process_group("gloo")
        model, mesh = make_model().train(), init_device_mesh("cpu", (2,))
        config = load_config_from_file(str(ROOT / "configs" / "accelerate" / "fsdp.yaml")).fsdp_config
        for module in [m for m in model.modules() if type(m).__name__ == config[LAYERS]]:
            fully_shard(module, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(parameter.to_local().numel() < parameter.numel() for parameter in model.parameters())

        def average(loss):
            torch.distributed.all_reduce(loss)
            return loss / 2

        return steps(model, lambda step: [2 * step + rank], average)

    first, second = in_two_processes(tmp_path, sharded)
    whole = steps(make_model().train(), lambda step: [2 * step, 2 * step + 1])
    assert first == second and len(set(whole)) == 4
    assert first == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp", "FSDP")])
def test_accelerate_takes_the_shipped_configurations(name, kind, make_model):
    path = str(ROOT / "configs" / "accelerate" / f"{name}.yaml")
    config = load_config_from_file(path)
    assert config.distributed_type == kind and config.num_processes == 8
    arguments = launch_command_parser().parse_args(["--config_file", path, "run_mmre.py"])
    arguments, _, mixed_precision_from_file = _validate_launch_command(arguments)
    assert arguments.mixed_precision == "bf16" and mixed_precision_from_file
    assert (arguments.multi_gpu, arguments.use_fsdp) == (name == "ddp", name == "fsdp")
    if name == "fsdp":
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
        assert config.fsdp_config[LAYERS] in {type(module).__name__ for module in make_model().modules()}
