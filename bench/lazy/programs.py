# SPDX-License-Identifier: MIT
"""The programs: real ones from PyPI in normal use, each in an environment of its own, as pipx would install it.

What they work on lies in projects/. None of them needs a network, a terminal or more than a few seconds, and each ends by itself.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECTS = Path(__file__).with_name("projects")
GROUPS = {"cli": "command-line tools", "start": "command-line tools that only say who they are", "web": "web applications that serve a request",
          "test": "test runs", "numeric": "numeric scripts"}


@dataclass(frozen=True)
class Tool:
    """A program. ARGV: a script of the environment's bin/, or a file of its project, and its arguments; `{out}` is a directory that is empty before each run.
    It runs in a copy of PROJECT, a directory of projects/ (or in an empty one), and ends with STATUS."""

    key: str
    group: str
    argv: Sequence[str]
    packages: Sequence[str]
    project: str = ""
    home: str = ""  # the environment, where several programs share one
    env: Mapping[str, str] = field(default_factory=dict)
    status: int = 0

    @property
    def environment(self) -> str:
        return f"lazy-{self.home or self.key}"

    @property
    def title(self) -> str:
        line = " ".join(self.argv).replace("{out}", "OUT")
        return f"{self.key}: {line}" if line.split()[0].endswith(".py") else line


def _cli(key: str, line: str, packages: str, project: str = "", status: int = 0, **env: str) -> Tool:
    return Tool(key, "cli", line.split(), packages.split(), project, env=env, status=status)


def _start(key: str, option: str, packages: str = "") -> Tool:
    return Tool(f"{key}-start", "start", [key, option], [packages or key], home=key)


def _script(group: str, key: str, line: str, packages: str, project: str, home: str = "") -> Tool:
    return Tool(key, group, line.split(), packages.split(), project, home)


_NUMERIC = "numpy scipy pandas sympy matplotlib scikit-learn networkx"

TOOLS: list[Tool] = [
    _cli("poetry", "poetry check", "poetry", "poetry"),
    _cli("cookiecutter", "cookiecutter --no-input -o {out} template", "cookiecutter", "cookiecutter"),
    _cli("scrapy", "scrapy list", "scrapy", "scrapy"),
    _cli("celery", "celery -A tasks report", "celery", "celery"),
    _cli("aws", "aws configure list", "awscli", AWS_EC2_METADATA_DISABLED="true", AWS_ACCESS_KEY_ID="sample", AWS_SECRET_ACCESS_KEY="sample"),
    _cli("flask", "flask --app app routes", "flask", "flask"),
    _cli("openstack", "openstack --help", "python-openstackclient"),
    _cli("django", "django-admin check --settings settings --pythonpath .", "django", "django"),
    _cli("pip", "pip list", "pip flask"),
    _cli("black", "black --diff sample.py", "black", "lint"),
    _cli("mypy", "mypy sample.py", "mypy", "lint"),
    _cli("pylint", "pylint sample.py", "pylint", "lint"),
    _cli("bandit", "bandit -q sample.py", "bandit", "lint"),
    _cli("pygments", "pygmentize sample.py", "pygments", "lint"),
    _cli("httpie", "http --offline --ignore-stdin --print=HB POST example.org name=value", "httpie"),
    _cli("ansible", "ansible-playbook -i hosts play.yml", "ansible-core", "ansible"),
    _cli("sphinx", "sphinx-build -q -E . {out}", "sphinx", "sphinx"),
    _cli("mkdocs", "mkdocs build -q -d {out}", "mkdocs", "mkdocs"),
    _cli("pre-commit", "pre-commit validate-config", "pre-commit", "pre-commit"),
    _cli("tox", "tox list", "tox", "tox"),
    _cli("nox", "nox --list", "nox", "nox"),
    _cli("twine", "twine --help", "twine"),
    _cli("hatch", "hatch version", "hatch", "hatch"),
    _cli("alembic", "alembic history", "alembic", "alembic"),
    _cli("nbconvert", "jupyter-nbconvert --log-level=ERROR --to script --stdout sample.ipynb", "nbconvert", "nbconvert"),
    _cli("streamlit", "streamlit config show", "streamlit", STREAMLIT_SERVER_COOKIE_SECRET="sample"),
    _cli("yamllint", "yamllint sample.yml", "yamllint", "yamllint", 1),
    _cli("ipython", "ipython --quick -c print(1+1)", "ipython"),
    _cli("pipenv", "pipenv --help", "pipenv"),
    _cli("sqlfluff", "sqlfluff lint --dialect ansi sample.sql", "sqlfluff", "sqlfluff", 1),
    _cli("mercurial", "hg version", "mercurial"),
    _start("poetry", "--version"),
    _start("cookiecutter", "--help"),
    _start("scrapy", "version"),
    _start("celery", "--help"),
    _start("aws", "--version", "awscli"),
    _start("flask", "--help"),
    _script("web", "flask-serve", "serve.py", "flask", "flask", "flask"),
    _script("web", "django-serve", "serve.py", "django", "django", "django"),
    _script("web", "fastapi-serve", "serve.py", "fastapi httpx uvicorn", "fastapi", "fastapi"),
    _script("web", "datasette", "datasette --memory --get /-/versions.json", "datasette", ""),
    _script("test", "pytest", "pytest -q -p no:cacheprovider test_sample.py", "pytest", "pytest"),
    _script("test", "django-test", "django-admin test --settings settings --pythonpath .", "django", "django", "django"),
    _script("numeric", "numpy", "arrays.py", _NUMERIC, "numeric", "numeric"),
    _script("numeric", "pandas", "frames.py", _NUMERIC, "numeric", "numeric"),
    _script("numeric", "sympy", "algebra.py", _NUMERIC, "numeric", "numeric"),
    _script("numeric", "matplotlib", "figure.py {out}", _NUMERIC, "numeric", "numeric"),
    _script("numeric", "scikit-learn", "model.py", _NUMERIC, "numeric", "numeric"),
    _script("numeric", "networkx", "graph.py", _NUMERIC, "numeric", "numeric"),
]
# Which of them an effort has, by their keys.
EFFORTS: dict[str, tuple[str, ...]] = {"headline": ("poetry", "flask", "aws"), "full": tuple(tool.key for tool in TOOLS)}
