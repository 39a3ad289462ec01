"""Train and evaluate VM-HAN: `vmhan train` as a script that `accelerate launch` starts; flags override the file.

    accelerate launch run_mmre.py configs/mnre_offline.yaml --data_dir DIR --output_dir OUT

Writes to --output_dir: a complete Hub repository (code, config, processor, safetensors, card), environment.json,
predictions.jsonl, metrics.json and, with matplotlib, figures/reliability.png. --push_to_hub publishes it at the end;
`vmhan publish` does so later.
"""

import sys

from datasets_scripts.commands import run_command
from vmhan.training.command import main


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command("run_mmre.py", main))
