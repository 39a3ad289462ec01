"""Each loss term's share of the gradient: by hand, and in the log of a run that learns the same with it."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import close

import run_mmre
from vmhan.training.arguments import parse_arguments
from vmhan.training.loop.loss_shares import loss_shares


def test_the_shares_by_hand():
    """Gradients [3, 4] and [0, 10], and one of another parameter; nothing is accumulated."""
    shared, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(1))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    terms = {"a": (shared * torch.tensor([3.0, 4.0])).sum() + 7 * other.sum(), "b": 10 * shared[1], "c": 0 * shared[0]}
    shares = loss_shares(terms, [shared, frozen])
    close(torch.stack([shares["a_share"], shares["b_share"], shares["c_share"]]), torch.tensor([1 / 3, 2 / 3, 0.0]))
    assert shared.grad is None
    sum(terms.values()).backward()
    close(shared.grad, torch.tensor([3.0, 14.0]))


def test_a_run_logs_them_and_learns_as_without(tiny_flags, tmp_path):
    folders = [tmp_path / "with", tmp_path / "without"]
    flags = [*tiny_flags, "--num_train_epochs", "1", "--logging_steps", "2", "--kl_loss_weight", "0.5"]
    for folder in folders:
        shares = str(folder == folders[0]).lower()
        run_mmre.main([*flags, "--log_loss_shares", shares, "--output_dir", str(folder)])
    one, other = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [json.loads((f / "checkpoint-3" / "trainer_state.json").read_text())["log_history"] for f in folders]
    (row,) = [row for row in logs[0] if "kl_loss_share" in row]
    names = [name for name in row if name.endswith("_share")]
    assert row["step"] == 2 and sorted(names) == ["kl_loss_share", "reconstruction_loss_share", "relation_loss_share"]
    assert sum(row[name] for name in names) == pytest.approx(1, abs=1e-5) and all(0 < row[name] < 1 for name in names)
    assert not [name for row in logs[1] for name in row if name.endswith("_share")]


@pytest.mark.parametrize("others", ["--logging_strategy epoch", "--torch_compile true", "--do_train false"])
def test_where_nothing_can_be_logged(others):
    start = ["--output_dir", "x", "--do_train", "true", "--log_loss_shares", "true"]
    with pytest.raises(ValueError, match="--log_loss_shares: received True, expected"):
        parse_arguments([*start, *others.split()])
