"""What a run says of itself."""

import pytest

from vmhan.training.arguments import parse_arguments
from vmhan.training.results import describe


@pytest.mark.parametrize(
    ("flags", "said", "unsaid"),
    [
        ([], {"num_train_epochs": 3.0, "per_device_train_batch_size": 8}, {"max_steps", "tokens_per_batch"}),
        (["--max_steps", "40"], {"max_steps": 40}, {"num_train_epochs"}),
        (["--tokens_per_batch", "512"], {"tokens_per_batch": 512}, {"per_device_train_batch_size"}),
        (["--weight_averaging", "0.99", "--do_train", "true"], {"weight_averaging": 0.99}, set()),
    ],
)
def test_run_json_has_the_settings_that_counted(tmp_path, flags, said, unsaid):
    """Steps stand over epochs, and tokens over posts of a batch: the card tells the ones that the training had."""
    groups = parse_arguments(["--output_dir", str(tmp_path), "--dataset", "postcards", "--use_cpu", "true", *flags])
    training = describe(flags, *groups)["training"]
    assert {name: training[name] for name in said} == said and not unsaid & training.keys()
