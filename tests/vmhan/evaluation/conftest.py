"""One tiny run on postcards, which the browser shows and whose visual nodes are taken away."""

import pytest
from transformers import AutoModel

import run_mmre


@pytest.fixture(scope="session")
def run_postcards(tmp_path_factory, tokenizer, make_text_config, make_vision_config):
    """`run_postcards(output_dir, **flags)`: a run with a BERT of two layers and features of a tiny CLIP -> metrics."""
    folder = tmp_path_factory.mktemp("postcards")
    AutoModel.from_config(make_text_config()).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    AutoModel.from_config(make_vision_config()).save_pretrained(folder / "vision")
    common = {"text_encoder": folder / "encoder", "entity_representation": "packed", "dataset": "postcards"}
    common |= {"features": f"transformers:{folder / 'vision'}", "num_train": 8, "num_validation": 6, "num_test": 5}
    common |= {"cache_dir": folder / "cache", "remove_unused_columns": False, "use_cpu": True, "disable_tqdm": True}

    def run(output_dir, **flags):
        flags = {**common, "output_dir": output_dir, **flags}
        return run_mmre.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])

    run.cache_dir = str(folder / "cache")
    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, run_postcards):
    """The folder of an untrained run, most of whose answers are wrong; read-only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run_postcards(folder, do_train=False)
    return folder
