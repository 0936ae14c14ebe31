import json

import pytest


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "stored.json").write_text(json.dumps({"a": 1}))
    return tmp_path / "stored.json"


def test_read(stored):
    assert json.loads(stored.read_text()) == {"a": 1}


@pytest.mark.parametrize("number", range(50))
def test_square(number):
    assert number * number == number ** 2


def test_raises(monkeypatch):
    monkeypatch.setattr(json, "loads", lambda text: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        json.loads("{}")


@pytest.mark.xfail(strict=True)
def test_fails():
    assert [1, 2, 3] == [1, 2, 4]
