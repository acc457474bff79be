from unimoe.train import commit


def repository(folder, head, **files):
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text(head)
    for name, text in files.items():
        (folder / ".git" / name.replace("__", "/").replace("_", "-")).write_text(text)
    return folder / ".git"


def test_the_commit_of_a_branch_is_read(tmp_path):
    git = repository(tmp_path, "ref: refs/heads/main\n", refs__heads__main="a" * 40 + "\n")
    assert commit._commit_of(git) == "a" * 40


def test_the_commit_of_a_packed_branch_is_read(tmp_path):
    lines = f"# pack-refs with: peeled\n{'b' * 40} refs/heads/main\n"
    git = repository(tmp_path, "ref: refs/heads/main\n", packed_refs=lines)
    assert commit._commit_of(git) == "b" * 40


def test_a_detached_head_is_the_commit(tmp_path):
    assert commit._commit_of(repository(tmp_path, "c" * 40 + "\n")) == "c" * 40
