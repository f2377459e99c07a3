"""What the tests of environments share."""

import pytest

from mtrl.env.make import make_vec_env

BACKENDS = {
    "native": {"backend": "native", "threads": 2},
    "stock": {"backend": "stock", "workers": 1},
    "workers": {"backend": "stock", "workers": 2},
}


def open_and_close():
    """Return ``make_vec_env``, whose first argument is a name in ``BACKENDS``; what it makes is closed."""
    made = []

    def make(backend, *arguments, **options):
        made.append(make_vec_env(*arguments, **BACKENDS[backend] | options))
        return made[-1]

    yield make
    for env in made:
        env.close()


make = pytest.fixture(open_and_close)
make_for_module = pytest.fixture(open_and_close, scope="module")
