# SPDX-License-Identifier: MIT
"""The name of the class that a file must define, in the convention `class`."""
from typing import Mapping


class Inflector:
    """`http_client` is HttpClient; HTTPClient with the acronym HTTP, or if it is said so."""

    def __init__(self, overrides: Mapping[str, str] | None = None, *, acronyms: tuple[str, ...] = ()) -> None:
        self._overrides = dict(overrides or {})
        self._acronyms = {word.lower(): word for word in acronyms}

    def inflect(self, overrides: Mapping[str, str]) -> None:
        """Stems of files whose classes have other names: {"http_client": "HTTPClient"}."""
        self._overrides = {**self._overrides, **overrides}

    def camelize(self, stem: str, path: str) -> str:
        """The class of the file at PATH, STEM being its name without the suffix."""
        if stem in self._overrides:
            return self._overrides[stem]
        return "".join(self._acronyms.get(word, word[:1].upper() + word[1:]) for word in stem.split("_"))
