"""A lock lets one process in, names it to others, ends with it, and leaves nothing behind."""

import errno
import os
import platform
import signal
import threading
import time

import filelock
import pytest
from other_processes import die, in_child, wait_until

from model_cards.files import whole_file
from model_cards.locks import BusyError, lock_beside, lock_inside, locked


def hold(file, act=lambda: time.sleep(60)):
    """A process that takes the lock and then acts; it has the lock."""

    def holding():
        with locked(file, "it"):
            act()

    child = in_child(holding)
    wait_until(lambda: file.exists() and file.read_text())
    return child


def test_a_second_process_is_told_at_once_who_is_at_it(tmp_path):
    file = lock_beside(tmp_path / "out.jsonl")
    child, begun = hold(file), time.monotonic()
    said = rf"^--output out.jsonl: .*process {child.pid} on {platform.node()}"
    for _ in range(2):
        with pytest.raises(BusyError, match=said), locked(file, "--output out.jsonl"):
            pass
    assert time.monotonic() - begun < 2
    child.kill()
    child.join()
    assert file.exists()  # what a kill leaves blocks nobody
    with locked(file, "--output out.jsonl"):
        assert f"process {os.getpid()} " in file.read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [die, lambda: None, lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGTERM)])
def test_however_its_holder_ends_it_is_free(tmp_path, end):
    file = lock_inside(tmp_path)
    in_child(lambda: hold_and(file, end)).join()
    with locked(file, "it"):
        pass
    assert not file.exists()


def hold_and(file, end):
    with locked(file, "it"):
        end()


def test_what_a_killed_process_was_writing_into_the_folder_is_deleted(tmp_path):
    def writing():
        with whole_file(tmp_path / "figures" / "a.png") as temporary:
            temporary.write_text("half")
            die()

    hold(lock_inside(tmp_path), writing).join()
    (tmp_path / ".of-the-user").touch()
    assert len(list((tmp_path / "figures").iterdir())) == 1
    with locked(lock_inside(tmp_path), "it"):
        assert not list((tmp_path / "figures").iterdir()) and (tmp_path / ".of-the-user").exists()


def test_a_block_inside_goes_on_and_another_thread_does_not(tmp_path):
    refused = []

    def other():
        try:
            with locked(file, "it"):
                pass
        except BusyError as error:
            refused.append(str(error))

    file = lock_inside(tmp_path / "made" / "for it")
    with locked(file, "it"):
        with locked(tmp_path / "made" / ".." / "made" / "for it" / ".lock", "it"):
            pass
        assert file.exists()
        (thread := threading.Thread(target=other)).start()
        thread.join()
    assert f"process {os.getpid()} " in refused[0] and not list(tmp_path.iterdir())
    with pytest.raises(KeyError), locked(file, "it"):
        (file.parent / "result").touch()
        raise KeyError
    assert [path.name for path in file.parent.iterdir()] == ["result"]


def test_many_processes_never_share_it_though_its_file_is_deleted_each_time(tmp_path):
    file, inside = tmp_path / ".lock", tmp_path / "inside"

    def compete():
        done = 0
        while done < 15:
            try:
                with locked(file, "it"):
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                    inside.unlink()
                    done += 1
            except BusyError:
                pass

    children = [in_child(compete) for _ in range(4)]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4 and not list(tmp_path.iterdir())


def test_a_lock_that_somebody_deleted_is_not_deleted_a_second_time(tmp_path):
    file = tmp_path / ".lock"
    with locked(file, "it"):
        file.unlink()
        child = hold(file)
    assert file.exists()
    child.kill()


def test_a_forked_process_does_not_keep_it(tmp_path):
    file = tmp_path / ".lock"
    with locked(file, "it"):
        child = in_child(time.sleep, 60)
    with locked(file, "it"):
        assert child.is_alive() and f"{os.getpid()}" in file.read_text()
    child.kill()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.EIO])
def test_where_the_file_system_has_no_locks_there_is_a_warning(tmp_path, monkeypatch, caplog, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)), locked(tmp_path / ".lock", "it"):
            pass
    else:
        with locked(tmp_path / ".lock", "the output"):
            pass
        assert "the output cannot be locked" in caplog.text and os.strerror(code) in caplog.text


class Launched:
    def __init__(self, is_main_process):
        self.is_main_process, self.num_processes = is_main_process, 2


def test_all_that_were_launched_hear_that_the_main_process_was_refused(tmp_path, monkeypatch):
    from model_cards.locks import locked_by_main

    sent = []
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda objects: sent.extend(objects))
    child = hold(file := tmp_path / ".lock")
    with pytest.raises(BusyError, match=f"process {child.pid}"), locked_by_main(file, "it", Launched(True)):
        pass
    assert isinstance(sent[0], BusyError)
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda objects: objects.__setitem__(0, sent[0]))
    with pytest.raises(BusyError, match=f"process {child.pid}"), locked_by_main(file, "it", Launched(False)):
        pass
    child.kill()
