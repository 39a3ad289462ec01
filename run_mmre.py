"""Train and evaluate VM-HAN: `python run_mmre.py CONFIG.yaml --flag value ...` (the flags override the file).

    python run_mmre.py configs/demo.yaml --output_dir outputs/demo
    accelerate launch run_mmre.py configs/mnre_offline.yaml --data_dir DIR --output_dir OUT

Writes to --output_dir: a complete Hub repository (code, config, processor, safetensors, card), environment.json,
predictions.jsonl, metrics.json and, with matplotlib, figures/reliability.png. --push_to_hub publishes it at the end;
`vmhan publish` does so later. `--do_train false --trained_model FOLDER` evaluates a finished run,
with the other flags of its command, into a folder of its own.
"""

import sys

from datasets_scripts.commands import run_command
from vmhan.training.command import main


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command("run_mmre.py", main))
