"""The verdicts that docs/leaks.md lists: on data made here, and on MNRE's own files where they are at hand."""

import pytest
from audits import QUICK, audit, leaks, row_of
from more_files import write_archive
from paths import MNRE_DATA as REAL
from published_files import write_mnre

from datasets_scripts.audit.command import audit_files
from datasets_scripts.audit.report import markdown
from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.more import MORE
from datasets_scripts.builders.postcards import Postcards
from datasets_scripts.leaks import OFFICIAL


ORDER = {("mentions: tail first", "value")}
CODE = ("phrase_text_train.json", "words beyond the pair's own, as a code")


def mnre(folder, config):
    """MNRE in small: clean but for the order of its mentions."""
    write_mnre(folder, leaky=False, order_leaks=True)
    return audit(build(MNRE, config_name=config, data_dir=folder)["train"])


def published_files(folder):
    text, *auxiliary = write_mnre(folder)
    return audit_files(auxiliary, text, **QUICK)


def more(folder):
    return audit(build(MORE, config_name="more", data_dir=write_archive(folder))["train"])


def postcards(folder):
    sizes = {"num_train": 40, "num_validation": 1, "num_test": 1, "image_size": 96}
    return audit(build(Postcards, config_name="postcards", **sizes)["train"])


@pytest.mark.parametrize(
    ("report_of", "expected"),
    [
        (lambda folder: mnre(folder, "mnre"), ORDER),
        (lambda folder: mnre(folder, "mnre_order_blind"), set()),
        (published_files, {("mre_train_dict.pth", "count"), CODE}),
        (more, set()),
        (postcards, set()),
    ],
    ids=["official", "order_blind", "published files", "more", "postcards"],
)
def test_the_verdict_and_the_fields_that_fail(report_of, expected, tmp_path):
    report = report_of(tmp_path / "data")
    found = {(field, aspect) for field, aspect, task in leaks(report)[0] if task == "none or positive"}
    assert report["failed"] == bool(expected)
    assert found >= expected and {field for field, _ in found} == {field for field, _ in expected}


def test_what_the_tail_object_of_more_looks_like_is_content(tmp_path):
    assert row_of(more(tmp_path / "more"), "pairs.tail_object -> boxes", "of the first")["kind"] == "content"


needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real MNRE files are not at {REAL}")


@needs_real
def test_the_real_files_fail_by_far():
    auxiliary = [REAL / "leaky_auxiliary/mre_val_dict.pth", REAL / "leaky_auxiliary/phrase_text_val.json"]
    report = audit_files(auxiliary, REAL / "mnre_txt/mnre_val .txt", **QUICK)
    assert row_of(report, "mre_val_dict.pth", "count")["accuracy"] == pytest.approx(0.991, abs=0.001)
    suffix = row_of(report, "phrase_text_val.json", "words beyond the pair's own, as a code", "relation")
    assert suffix["accuracy"] > 0.92 and suffix["f1"] > 0.8 and suffix["share_interval"][0] > 0.7


@needs_real
def test_the_real_official_build_fails_for_its_order_alone_and_the_order_blind_one_passes(tmp_path):
    folder = tmp_path / "mnre"
    for name in ("mnre_txt/mnre_val .txt", "captions"):  # validation alone: quicker
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(REAL / name)
    official, blind = (
        build(MNRE, config_name=name, data_dir=folder, captions="llava_next") for name in ("mnre", "mnre_order_blind")
    )
    report = audit(official["validation"])
    assert leaks(report) == ({("mentions: tail first", "value", "none or positive")}, set())
    assert row_of(report, "mentions: tail first", "value")["share"] == pytest.approx(0.312, abs=0.01)
    assert report["protocol"] == OFFICIAL and "Protocol: official" in markdown(report)
    assert leaks(audit(blind["validation"])) == (set(), set())
