"""A flag that changes nothing without another one is warned of by training, and an error of the other commands."""

import pytest

from vmhan import cli
from vmhan.training.arguments import parse_arguments


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        ("--shuffle_buffer 0", "--shuffle_buffer: expected --streaming true, received --shuffle_buffer 0"),
        ("--dataset x --streaming true --max_steps 1 --shuffle_buffer 0", ""),
        ("--split_seed 3", "--split_seed: expected --data FILE, or a folder with train alone, received"),
        ("--data . --split_seed 3", ""),
        ("--dataset_config mine", "--dataset_config: expected --dataset FOLDER"),
        ("--dataset x/y --dataset_config mine", ""),
        ("--feature_size_px 32", "--feature_size_px: expected --features ENCODER:WEIGHTS"),
        ("--feature_size_px 32 --features random:0", ""),
        ("--mention_loss_weight 0.5", "--mention_loss_weight: expected --mentions true"),
        ("--mention_loss_weight 0.5 --mentions true", ""),
        ("--hub_predictions true", "--hub_predictions: expected --push_to_hub true"),
        ("--hub_predictions true --push_to_hub true", ""),
    ],
)
def test_training_warns(flags, warning, tmp_path, caplog):
    parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", "true", *flags.split()])
    said = [record.message for record in caplog.records if "changes nothing" in record.message]
    assert len(said) == bool(warning) and all(message.startswith(warning) for message in said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serve model --metrics_port 9000 --ray_address auto", "--metrics_port: expected --ray_address left out"),
    ],
)
def test_other_commands_refuse(command, said, capsys):
    assert cli.main(command.split()) == 2
    assert said in capsys.readouterr().err
