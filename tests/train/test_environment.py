import os
import sys

import pytest

from unimoe.train.environment import restart_keeping_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")


@pytest.fixture
def started(monkeypatch):
    """Command lines and environments a restart asked for."""
    calls = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        del os.environ[name]
    monkeypatch.setattr(
        os, "execv", lambda path, words: calls.append((path, words, dict(os.environ)))
    )
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    return calls


def test_the_same_command_starts_again_with_pages_kept(started, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "unimoe", "train", "tiny"])
    restart_keeping_pages()
    ((path, words, environment),) = started
    assert (path, words) == (sys.executable, [sys.executable, "-m", "unimoe", "train", "tiny"])
    assert environment["MALLOC_TRIM_THRESHOLD_"] == str(8 * 2**30)


def test_it_starts_again_once_only(started):
    restart_keeping_pages()
    restart_keeping_pages()
    assert len(started) == 1


def test_a_users_own_settings_are_left_alone(started):
    os.environ["MALLOC_TOP_PAD_"] = "1"
    restart_keeping_pages()
    assert started == []


def test_another_c_library_needs_no_restart(started, monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("musl", "1.2"))
    restart_keeping_pages()
    assert started == []
