"""Options that need another one: what is said, and when nothing is."""

import pytest

from modeling_vmhan.needs import Need, unmet


NEEDS = (Need("seed", "num_samples", "of at least 1"), Need("address", "engine", "ray", ("ray",).__contains__))


@pytest.mark.parametrize(
    ("values", "rest", "said"),
    [
        ({"seed": 3}, {}, ["seed: expected num_samples of at least 1, received seed 3 without num_samples"]),
        ({"seed": 0, "num_samples": 0}, {}, ["received seed 0 with num_samples 0"]),
        ({"seed": 3, "num_samples": 1}, {}, []),
        ({"num_samples": 0}, {}, []),
        ({"seed": 3, "address": "auto"}, {}, ["seed", "address"]),
        ({"address": "ray://ann:s3cret@host"}, {}, ["received address without engine, where"]),  # no secret
        ({"seed": 3, "num_samples": 0}, {"last": ["num_samples"]}, []),  # taken back
        ({"seed": 3, "num_samples": 0}, {"last": ["num_samples", "seed"]}, ["seed 3"]),
        ({"address": None, "engine": "local"}, {"given": set()}, []),  # as a parser leaves it
        (
            {"address": "auto", "engine": "local"},
            {"given": {"address"}, "flag": "--"},
            ["--address: expected --engine"],
        ),
    ],
)
def test_an_option_that_lacks_what_it_needs_is_named(values, rest, said):
    messages = list(unmet(NEEDS, values, **rest))
    assert len(messages) == len(said) and all(part in message for part, message in zip(said, messages))
