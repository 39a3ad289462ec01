"""docs/leaks.md: its tables are those of the saved numbers, and its script prints what it says it prints."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from audits import QUICK
from paths import MNRE_DATA as REAL
from paths import ROOT
from PIL import Image
from published_files import write_mnre

from benchmarks.findings import leaks
from datasets_scripts.audit.command import audit_files
from model_cards.files import write_json


PAGE = (ROOT / "docs/leaks.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"```bash\n(python - .*?\nEND\n)```", PAGE, flags=re.DOTALL)[1].replace(
    "python", shlex.quote(sys.executable), 1
)
PRINTED = re.search(r"```text\n(mnre_txt/.*?)```", PAGE, flags=re.DOTALL)[1]


def run_script(folder):
    return subprocess.run(["bash", "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_tables_of_the_page_are_those_of_the_saved_numbers():
    found = json.loads((ROOT / "docs/leaks/leaks.json").read_text(encoding="utf-8"))
    assert [table for table in leaks.tables(found) if table not in PAGE] == []


@pytest.mark.slow
def test_the_script_of_the_page_counts_what_the_benchmark_counts(tmp_path):
    text, *_ = write_mnre(tmp_path, order_leaks=True)
    of_relations = leaks.count(tmp_path)["orders"]["train"]
    shutil.copy(text, tmp_path / "mnre_txt/mnre_val .txt")
    turned, pairs = sum(row[1] for row in of_relations.values()), sum(map(sum, of_relations.values()))
    assert turned == of_relations["/per/org/member_of"][1] > 0
    assert f"{turned} of {pairs} pairs" in run_script(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real MNRE files are not at {REAL}")
def test_the_script_prints_on_the_real_files_what_the_page_says():
    assert run_script(REAL) == PRINTED


def test_files_of_numbers_and_pictures_without_any_text_of_the_data(tmp_path, capsys):
    text, *auxiliary = write_mnre(tmp_path / "data", order_leaks=True)
    write_json(tmp_path / "audits/mnre/audit.json", audit_files(auxiliary, text, **QUICK))
    for name in leaks.AUDITED.keys() - {"mnre"}:
        shutil.copytree(tmp_path / "audits/mnre", tmp_path / "audits" / name)
    leaks.main([str(tmp_path / "data"), str(tmp_path / "audits"), "--output_dir", str(tmp_path / "out")])
    numbers = (tmp_path / "out/leaks.json").read_text(encoding="utf-8")
    assert (
        json.loads(numbers)["crops"]["train"]["None"].keys() == {"2"}
        and "Ann" not in numbers
        and "crop_" not in numbers
    )
    assert "| number of crops | train | 100.0 | 100.0 (100.0 to 100.0) |" in capsys.readouterr().out
    for name in ("order.png", "crops.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 500
