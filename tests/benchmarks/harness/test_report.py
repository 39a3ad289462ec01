"""What a cell of a report says."""

from benchmarks.harness.report import Row, Table, markdown


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_cell_has_the_median_and_the_quartiles_and_ratios_are_taken_within_a_round():
    own, other = {"wall": [2.0, 30.0, 8.0]}, {"wall": [1.0, 10.0, 2.0]}
    rows = {"a": Row(own, "b", {"pairs": 2}), "b": Row(other, "b", {"pairs": 2})}
    line = markdown(Table(rows, per="pairs")).splitlines()[2]
    assert cells_of(line) == ["a", "4000 (2500 to 9500)", "3.00 (2.50 to 3.50)", "b", "2"]
