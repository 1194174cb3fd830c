"""What the demo fetches: library sources found on disk, and lists of URLs."""

import hashlib
import io

import pytest

from cli.demo.items import hash_files, library_files, library_folder, read_urls
from common.errors import ConfigurationError


@pytest.fixture
def library(tmp_path):
    for name in ("b.py", "a/one.py", "a/two.py", "site-packages/pip.py", "a/__pycache__/x.py", "readme.txt", "ä b.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(name)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "folder.py").mkdir()
    return tmp_path


@pytest.fixture
def list_file(tmp_path):
    def write(text):
        path = tmp_path / "urls.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


class TestLibrary:
    def test_sources_are_found_and_packages_caches_and_dangling_links_are_not(self, library):
        assert library_files(library) == ["a/one.py", "a/two.py", "b.py", "ä b.py"]

    def test_some_of_them_are_spread_over_all(self, library):
        assert library_files(library, 2) == ["a/one.py", "b.py"]
        assert library_files(library, 99) == library_files(library)

    def test_a_folder_without_sources_says_what_to_do(self, tmp_path):
        with pytest.raises(ConfigurationError, match="--urls FILE"):
            library_files(tmp_path)

    def test_this_python_has_a_library(self):
        assert "asyncio/tasks.py" in library_files(library_folder())

    def test_files_are_hashed(self, library):
        assert hash_files(library, ["b.py"]) == {"b.py": (4, hashlib.sha256(b"b.py").hexdigest())}


class TestUrls:
    def test_comments_and_blank_lines_are_passed_over(self, list_file):
        found = read_urls(list_file("\ufeff# mine\n\n  http://a/x  \nhttps://b/\n"))
        assert [item.url for item in found.items] == ["http://a/x", "https://b/"]
        assert found.repeated == 0

    def test_a_repeated_url_is_fetched_once_and_counted(self, list_file):
        found = read_urls(list_file("http://a/x\nhttp://a/x\nhttp://a/x#part\nhttp://a/y\n"))
        assert [item.name for item in found.items] == ["http://a/x", "http://a/y"]
        assert found.repeated == 2

    def test_a_password_is_sent_but_neither_stored_nor_shown(self, list_file):
        (item,) = read_urls(list_file("http://me:secret@a/x?token=hidden\n")).items
        assert item.url == "http://me:secret@a/x?token=hidden"
        assert "secret" not in item.name + item.label
        assert "hidden" not in item.label
        assert item.label.startswith("line 1: ")

    @pytest.mark.parametrize("line", ["example.org", "ftp://a/x", "http://", "http://[::1", "http://a/x y", "secret"])
    def test_a_line_that_is_no_url_is_named_by_its_number_not_its_text(self, list_file, line):
        with pytest.raises(ConfigurationError, match=r"urls\.txt, line 2: give an http") as caught:
            read_urls(list_file(f"http://a/\n{line}\n"))
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "# only a comment\n"])
    def test_an_empty_list_is_an_error(self, list_file, text):
        with pytest.raises(ConfigurationError, match="no URL in it"):
            read_urls(list_file(text))

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"gone\.txt: No such file"):
            read_urls(tmp_path / "gone.txt")

    def test_a_binary_file_is_refused(self, list_file):
        with pytest.raises(ConfigurationError, match="not a text file"):
            read_urls(list_file(b"\xff\xfe\x00"))

    def test_a_dash_is_standard_input(self, monkeypatch):
        from pathlib import Path

        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"http://a/x\n")))
        assert [item.url for item in read_urls(Path("-")).items] == ["http://a/x"]
