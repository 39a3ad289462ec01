"""Averaged weights: by hand, and in a run whose scores, checkpoints and final model have them; resumed, too."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import close
from torch import nn

import run_mmre
from vmhan.training.arguments import parse_arguments
from vmhan.training.checkpoints import UNAVERAGED, checkpoint_fault
from vmhan.training.loop.averaging import WeightAveraging


def test_the_average_by_hand():
    """Weights and running statistics; a frozen weight stays where it is, and the best checkpoint's are kept."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    model[1].requires_grad_(False)
    weight, running = model[0].weight.data, model[1].running_mean
    averaging = WeightAveraging(lambda: model)
    args = SimpleNamespace(weight_averaging=0.5, load_best_model_at_end=False)
    averaging.on_train_begin(args, None, None)
    expected = [weight.clone(), running.clone()]
    for step in (1, 2, 3):
        weight += step
        running -= step
        averaging.on_step_end(args, SimpleNamespace(global_step=step), None)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, (weight, running), strict=True)]
    own = weight.clone()
    with averaging.in_place():
        close(weight, expected[0])
        close(running, expected[1])
    assert torch.equal(weight, own)
    averaging.on_train_end(args, SimpleNamespace(best_model_checkpoint=None), None)
    close(weight, expected[0])
    with averaging.in_place():  # after training there is one set of weights
        close(weight, expected[0])


@pytest.fixture(scope="module")
def flags(tiny_flags):
    return [*tiny_flags, "--weight_averaging", "0.9"]


@pytest.fixture(scope="module")
def averaged(flags, tmp_path_factory):
    """A run of two epochs with averaged weights: (folder, metrics)."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    return folder, run_mmre.main([*flags, "--output_dir", str(folder)])


def test_scores_and_the_final_model_are_of_the_average(averaged, whole):
    folder, metrics = averaged
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    losses = {row["step"]: row["eval_loss"] for row in state["log_history"] if "eval_loss" in row}
    best = state["best_global_step"]
    assert metrics["validation_loss"] == pytest.approx(losses[best], abs=1e-6)
    final, best_one = (load_file(place / "model.safetensors") for place in (folder, folder / f"checkpoint-{best}"))
    own = load_file(folder / f"checkpoint-{best}" / UNAVERAGED)
    assert all(torch.equal(final[name], best_one[name]) for name in final)
    assert any((final[name] - own[name]).abs().max() > 1e-3 for name in own)
    plain = load_file(whole[0] / f"checkpoint-{best}" / "model.safetensors")  # which learned the same way
    for name in own:
        close(own[name], plain[name])


def test_without_a_best_checkpoint_the_last_average_is_the_model(flags, tmp_path):
    others = ["--load_best_model_at_end", "false", "--output_dir", str(tmp_path)]
    run_mmre.main([*flags, *others])
    final, last = (load_file(place / "model.safetensors") for place in (tmp_path, tmp_path / "checkpoint-6"))
    assert all(torch.equal(final[name], last[name]) for name in final)
    assert not (tmp_path / UNAVERAGED).exists()


def test_a_resumed_run_ends_as_one_that_nothing_interrupted(flags, averaged, tmp_path):
    shutil.copytree(averaged[0] / "checkpoint-3", tmp_path / "run" / "checkpoint-3")
    run_mmre.main([*flags, "--output_dir", str(tmp_path / "run"), "--resume_from_checkpoint", "true"])
    for file in ("model.safetensors", f"checkpoint-6/{UNAVERAGED}"):
        one, other = (load_file(place / file) for place in (averaged[0], tmp_path / "run"))
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one), file


def test_a_checkpoint_whose_other_weights_are_cut_short_is_not_whole(averaged, tmp_path):
    folder = shutil.copytree(averaged[0] / "checkpoint-3", tmp_path / "checkpoint-3")
    assert checkpoint_fault(folder) is None
    (folder / UNAVERAGED).write_bytes((folder / UNAVERAGED).read_bytes()[:-9])
    assert UNAVERAGED in checkpoint_fault(folder)


def test_it_is_taken_up_and_left_at_no_checkpoint(tiny_flags, flags, averaged, whole, tmp_path):
    for kind, run, said in (("with", averaged[0], None), ("without", whole[0], 0.9)):
        folder = tmp_path / kind
        shutil.copytree(run / "checkpoint-3", folder / "checkpoint-3")
        command = [*(tiny_flags if said is None else flags), "--output_dir", str(folder)]
        with pytest.raises(
            ValueError, match=f"--weight_averaging: received {said}, .*checkpoint-3 was saved {kind} it"
        ):
            run_mmre.main([*command, "--resume_from_checkpoint", "true"])


@pytest.mark.parametrize("flags", ["0 --do_train true", "1 --do_train true", "0.9 --do_train false"])
def test_a_decay_that_cannot_be(flags):
    decay = float(flags.split()[0])
    with pytest.raises(ValueError, match=f"--weight_averaging: received {decay}, expected"):
        parse_arguments(["--output_dir", "x", "--weight_averaging", *flags.split()])
