"""However a preparation is cut off or shared out, the folder comes out the same, and nothing is made twice."""

import functools
import hashlib
import os
import pickle
import random
import shutil
import signal
import socket
import time
from pathlib import Path

import prepare_fakes
import psutil
import pytest
from accelerate.state import PartialState
from other_processes import die, in_child, kill_family, wait_until
from PIL import Image
from prepare_fakes import make_fakes, write_posts
from prepare_runs import ALL

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.assemble import assemble
from datasets_scripts.prepare.command import prepare
from datasets_scripts.prepare.plan import is_whole, make_plan
from datasets_scripts.prepare.source import open_source
from model_cards.locks import BusyError, lock_beside, locked


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets_scripts.prepare.plan.IMAGES_A_SHARD", 5)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fourteen images (one of them bad) in eighteen posts: three shards of images, five of posts."""
    folder = tmp_path_factory.mktemp("resume") / "mine"
    write_posts(folder, images=14, train=[*range(13), 3, 4], validation=[13, 0, None])
    (folder / "images" / "6.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """{name: sha256} of the folder that an undisturbed run makes."""
    return digests(run(folder, folder.parent / "whole"))


def arguments(folder, output, **fields):
    fixed = {"source": "jsonl", "shard_size": 4, "figures": False, "on_bad_image": "skip_image", **ALL}
    return PrepareArguments(**(fixed | {"data_dir": str(folder), "output_dir": str(output)} | fields))


def plan(given):
    cache_dir = Path(given.output_dir).parent / "cache"
    return make_plan(given, open_source(given, cache_dir=cache_dir), make_fakes(given, None), Path(given.output_dir))


def run(folder, output, **fields):
    return prepare(arguments(folder, output, **fields), make_tools=make_fakes)


def digests(output):
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def is_killed(act):
    (child := in_child(act)).join()
    return child.exitcode == -signal.SIGKILL


def commit_points(monkeypatch, act):
    """Call `act(n)` before the n-th file or folder takes its name."""
    count = 0

    def counted(real, *names, **options):
        nonlocal count
        act(count)
        count += 1
        return real(*names, **options)

    for function in (os.replace, os.rename):
        monkeypatch.setattr(os, function.__name__, functools.partial(counted, function))


def test_killed_before_any_file_takes_its_name(folder, whole, tmp_path, monkeypatch):
    points = []
    with monkeypatch.context() as patch:
        commit_points(patch, points.append)
        run(folder, tmp_path / "counted")
    assert len(points) >= 3 + 2 * 5 + 5  # shards of images; of posts with their logs; the rest of the folder
    output = tmp_path / "killed"

    def killed_at(point):
        commit_points(monkeypatch, lambda count: die() if count == point else None)
        run(folder, output)

    for point in (0, 3, 5, 1, 4, 2, 0):  # counted anew in each run: what is there is not made again
        assert is_killed(functools.partial(killed_at, point)) and not output.exists()
    assert digests(run(folder, output)) == whole
    assert not list(tmp_path.glob(".killed.*"))


def test_killed_while_it_replaces_an_older_folder(folder, whole, tmp_path, monkeypatch):
    output, real = tmp_path / "out", os.rename
    run(folder, output, max_posts=1)

    def killed():  # when the older folder is out of the way, and the new one not yet in its place
        monkeypatch.setattr(os, "rename", lambda a, b: die() if Path(b) == output else real(a, b))
        run(folder, output)

    assert is_killed(killed) and not output.exists()
    assert digests(run(folder, output)) == whole


def test_killed_from_outside_in_the_middle_of_a_file(folder, whole, tmp_path):
    """While it writes the rows of the fourth shard of posts; the three before are used as they are."""
    output, work = tmp_path / "out", tmp_path / ".out.prepare"

    def slowly():
        prepare_fakes.seconds_an_image = 0.05
        run(folder, output)

    child = in_child(slowly)
    deadline = time.monotonic() + 120
    while not list(work.glob("*/finished/jsonl/.*-train-00003-*.parquet")):
        assert child.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    child.join()
    made = list(work.glob("*/finished/jsonl/train-0000[012]-*.parquet"))
    states = {(path.stat().st_ino, path.stat().st_mtime_ns) for path in made}
    assert len(states) == 3 and not output.exists()
    assert digests(run(folder, output)) == whole
    assert states <= {(path.stat().st_ino, path.stat().st_mtime_ns) for path in output.rglob("*.parquet")}


def test_a_finished_folder_is_not_made_again_and_a_damaged_one_is(folder, whole, tmp_path):
    output = run(folder, tmp_path / "out")
    (output / "README.md").write_text("edited by hand")
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.*")}
    run(folder, output)
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("*.*")}
    assert (output / "README.md").read_text() == "edited by hand"
    (output / "jsonl" / "train-00001-of-00004.parquet").write_bytes(b"oops")
    assert digests(run(folder, output)) == whole
    for text in ("{", "{}"):
        (output / "provenance.json").write_text(text)
        assert digests(run(folder, output)) == whole


def change(kind, folder, monkeypatch):
    """Make one change; returns the fields of the arguments that changed."""
    if kind == "text":
        text = (folder / "train.jsonl").read_text()
        (folder / "train.jsonl").write_text(text.replace("Ann met Bob 2", "Ann met Bob two"))
    elif kind == "image":
        Image.new("RGB", (12, 12), (255, 0, 0)).save(folder / "images" / "2.png")
    elif kind in ("version", "code_digest"):
        monkeypatch.setattr(f"datasets_scripts.prepare.plan.{kind}", lambda of: "other")
    elif kind == "tool":
        monkeypatch.setattr("prepare_fakes.ColourFeatures.description", {"weights": "others"})
    return {"max_side": 33} if kind == "option" else {}


def test_a_second_preparation_ends_at_once_and_the_first_is_whole(folder, whole, tmp_path, monkeypatch):
    output, work = tmp_path / "out", tmp_path / ".out.prepare"

    def slowly():
        prepare_fakes.seconds_an_image = 0.01
        run(folder, output)

    child = in_child(slowly)
    wait_until(lambda: list(work.glob("*/images-*.parquet")))
    os.kill(child.pid, signal.SIGSTOP)  # so that it is in the midst of it
    (tmp_path / "link").symlink_to(output)
    with monkeypatch.context() as patch:
        patch.delattr("datasets_scripts.prepare.command.open_source")  # nothing is read to say so
        for name in (output, tmp_path / "link", tmp_path / "none" / ".." / "out"):
            with pytest.raises(BusyError, match=rf"output_dir {output}: .*process {child.pid} on "):
                run(folder, name)
    os.kill(child.pid, signal.SIGCONT)
    child.join()
    assert child.exitcode == 0 and digests(output) == whole
    assert {path.name for path in tmp_path.iterdir()} == {"out", "link"}


def damages(content):
    """What a power cut, a full disk or a hand leaves of a file."""
    middle = len(content) // 2
    zeros = content[:middle] + bytes(8) + content[middle + 8 :]
    return [b"", content[:middle], content[:-1], bytes(len(content)), content[:4] + content[-8:], zeros, b"\xff"]


FILES = ("images-00001.parquet", "finished/*/train-00001-*.parquet", "train-00001.jsonl", "train-00001.sha256")


def test_a_shard_is_taken_over_only_if_it_is_whole(folder, tmp_path, monkeypatch):
    """The posts of bad images are left out, so that a shard has fewer rows than posts, and a line in its log."""
    fields = {"on_bad_image": "skip_post"}
    expected, output = digests(run(folder, tmp_path / "whole", **fields)), tmp_path / "out"

    def killed():
        monkeypatch.setattr("datasets_scripts.prepare.command.assemble", lambda *_: die())
        run(folder, output, **fields)

    def are_whole():
        return all(is_whole(shard) for shards in made.shards.values() for shard in shards)

    assert is_killed(killed)
    made = plan(arguments(folder, output, **fields))
    contents = {path: path.read_bytes() for pattern in FILES for path in made.folder.glob(pattern)}
    assert are_whole() and len(contents) == len(FILES)
    for path, content in contents.items():
        for other in damages(content):
            path.write_bytes(other)
            assert are_whole() is (other == content)
        path.unlink()
        assert not are_whole()
        path.write_bytes(content)
    for spoil in (lambda path: os.truncate(path, 7), Path.unlink):
        for path in contents:
            spoil(path)
        assert is_killed(killed) and are_whole()
        assert {path: path.read_bytes() for path in contents} == contents
    assert digests(run(folder, output, **fields)) == expected


@pytest.mark.parametrize("kind", ["deleted", "truncated", "of other rows"])
def test_a_shard_that_something_else_changes_meanwhile_is_not_called_finished(
    folder, whole, tmp_path, monkeypatch, kind
):
    def changed_first(made, output_dir):
        first, second = (shard.file for shard in made.shards["posts"][:2])
        if kind == "deleted":
            first.unlink()
        elif kind == "truncated":
            os.truncate(first, 100)
        else:
            shutil.copy(made.shards["posts"][-1].file, second)
        return assemble(made, output_dir)

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("datasets_scripts.prepare.command.assemble", changed_first)
        with pytest.raises(ValueError, match=r"train-0000[01]-of-00004.parquet: .*Nothing is finished"):
            run(folder, output)
    assert not output.exists() and digests(run(folder, output)) == whole


@pytest.mark.parametrize("seed", range(2))
def test_spawned_workers_end_with_a_preparation_that_is_killed(folder, whole, tmp_path, seed):
    """In their first seconds they import; then they work."""
    output = tmp_path / "out"
    child = in_child(lambda: run(folder, output, num_proc=2))
    wait_until(lambda: len(psutil.Process(child.pid).children()) >= 2)
    time.sleep(random.Random(seed).uniform(0, 4))
    assert kill_family(child)[1] == []
    assert digests(run(folder, output)) == whole and not list(tmp_path.glob(".*"))


def test_a_change_of_anything_is_another_preparation(folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    before = plan(arguments(mine, tmp_path / "out")).folder
    assert plan(arguments(mine, tmp_path / "out")).folder == before
    for kind in ("option", "text", "image", "version", "code_digest", "tool"):
        with pytest.MonkeyPatch.context() as patch:
            changed = shutil.copytree(folder, tmp_path / kind / "mine")
            fields = change(kind, changed, patch)
            assert plan(arguments(changed, tmp_path / "out", **fields)).folder != before, kind


def test_processes_share_the_shards(folder, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets_scripts.prepare.workers.START_METHOD", "fork")  # spares the tests the imports
    assert digests(run(folder, tmp_path / "two", num_proc=2)) == whole
    with pytest.raises(ValueError, match="images/6.png .*'train-6'.*skip_post"):
        run(folder, tmp_path / "bad", num_proc=2, on_bad_image="error")


def test_a_plan_can_be_sent_to_a_spawned_process(folder, tmp_path):
    made = plan(arguments(folder, tmp_path / "out"))
    sent = pickle.loads(pickle.dumps(made))
    assert (sent.provenance, sent.shards) == (made.provenance, made.shards)
    assert sent.source.posts["train"][3] == made.source.posts["train"][3]


def test_launched_processes_share_the_shards(folder, whole, tmp_path):
    """Two processes with the environment that torchrun and accelerate launch give them."""
    output, log = tmp_path / "out", tmp_path / "log"
    children = launch(folder, output, log)
    assert [child.exitcode for child in children] == [0, 0] and digests(output) == whole
    passes = [int(line) for line in log.read_text().split()]
    assert sum(passes) == 13 and min(passes) > 0  # each good image once, by both
    assert not list(tmp_path.glob(".*"))


def test_launched_processes_all_end_where_another_process_prepares(folder, tmp_path):
    output = tmp_path / "out"
    with locked(lock_beside(output), "it"):
        children = launch(folder, output, tmp_path / "log")
    said = [(tmp_path / "log").read_text().count(f"process {os.getpid()} on ")]
    assert [child.exitcode for child in children] == [1, 1] and said == [2] and not output.exists()


def launch(folder, output, log):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def launched(rank):
        local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ.update({name: str(value) for name, value in (local | address).items()})
        PartialState._reset_state()  # the child has its parent's, which another test may have made for one process
        tools = make_fakes(arguments(folder, output), None)
        try:
            prepare(arguments(folder, output), make_tools=lambda *_: tools)
        except BusyError as error:
            with log.open("a") as file:
                file.write(f"{error}\n")
            raise
        with log.open("a") as file:
            file.write(f"{tools.extractor.passes}\n")
        assert (PartialState().process_index, PartialState().num_processes) == (rank, 2)
        PartialState().destroy_process_group()

    children = [in_child(functools.partial(launched, rank)) for rank in range(2)]
    for child in children:
        child.join(120)
    return children
