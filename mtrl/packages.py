"""Which optional packages there are. Imports nothing."""

import os
from importlib.util import find_spec


def installed(package: str) -> bool:
    """Return whether a package is there to import, and not as a folder or file of the working directory.

    Python looks there first, and what lies there may be somebody else's: no command runs it unasked.
    """
    spec = find_spec(package)
    if spec is None:
        return False
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin and spec.has_location else [])
    return os.getcwd() not in [os.path.dirname(os.path.realpath(place)) for place in places]
