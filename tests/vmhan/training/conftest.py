"""A whole run of two checkpoints, and runs of a sweep with the same tiny configuration."""

import pytest
import yaml

import run_mmre
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep


@pytest.fixture(scope="session")
def tiny_flags(workplace):
    return [str(workplace / "tiny.yaml"), "--visual", "none", "--num_train_epochs", "2"]


@pytest.fixture(scope="session")
def whole(tiny_flags, tmp_path_factory):
    """A run that nothing interrupted, with checkpoint-3 and checkpoint-6: (folder, metrics)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, run_mmre.main([*tiny_flags, "--output_dir", str(folder)])


@pytest.fixture
def sweep_run(tiny_flags, tmp_path):
    """`sweep_run(results, **flags)`: a run of a sweep with the tiny configuration."""
    entries = {"config": tiny_flags[0], "visual": "none", "num_train_epochs": 1}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"datasets": {"cards": entries}, "rows": {"full": {}}}))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    return lambda results, **own: plan_runs(sweep, tmp_path / results, flags=own)[0]
