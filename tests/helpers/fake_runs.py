"""Folders of finished runs, written by hand for what scores, compares and draws them."""

import json


__all__ = ["write_run"]


def write_run(folder, rows, labels, **files):
    """A folder with predictions.jsonl of these rows and config.json of these labels; returns it.

    Args:
        rows: dicts. files: further JSON files by their stem, as metrics={...}; `config` adds to config.json; a string
            is written as it is.
    """
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files["config"] = {"id2label": dict(enumerate(labels)), "none_label": "None", **files.get("config", {})}
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
