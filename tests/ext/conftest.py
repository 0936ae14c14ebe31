# SPDX-License-Identifier: MIT
import pytest

from harness import Tree


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture(params=["stat", "frozen"])
def any_tree(tmp_path, request):
    """A tree, under each freshness mode."""
    tree = Tree(tmp_path)
    tree.freshness = request.param
    return tree


@pytest.fixture
def powerless(tree, no_power):
    """A tree whose children may not read what permissions forbid."""
    tree.prefix = no_power
    return tree
