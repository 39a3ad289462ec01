"""The benchmark of the head: that its report has each row. No test asserts a time."""

from benchmarks.model import head


def test_the_heads_report(tmp_path):
    head.main(f"--pairs 4 --hidden_size 16 --rounds 1 --output_dir {tmp_path}".split())
    assert (tmp_path / "head.md").read_text().count("| head_products |\n") == 2
