"""The benchmark of bfloat16: it has a row for each form, and the exact one is what the others are compared with."""

import json

from markdown_cells import tables

from benchmarks.inference import halves


RELATIONS = ["None", "located_in", "peer"]


def test_each_form_answers_all_pairs_of_the_validation_split(make_model, make_processor, tmp_path, capsys):
    model = make_model("text_only", id2label=dict(enumerate(RELATIONS)))
    for part in (model, make_processor(model.config)):
        part.save_pretrained(tmp_path / "model")
    pair = {"head": "Ann", "tail": "Bob"}
    rows = [{"id": name, "text": "Ann met Bob", "pairs": [{**pair, "relation": name}]} for name in RELATIONS]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = f"--dataset jsonl --data_dir {tmp_path} --cache_dir {tmp_path}/cache --visual none --use_cpu true".split()
    halves.main([str(tmp_path / "model"), *data])
    ((heading, exact, weights, every),) = tables(capsys.readouterr().out)
    assert heading[0] == "bfloat16" and [exact[0], weights[0], every[0]] == ["float32", "weights", "all"]
    assert exact[2:] == ["100.00%", "0.0000", "1.00"]  # of itself
    assert 0 < float(weights[3]) < 0.1 and 0 < float(every[3]) < 0.1
