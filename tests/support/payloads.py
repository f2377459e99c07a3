"""What runs a program when it is unpickled, and how it comes into a model."""

import base64
import json
import os
import zipfile

import cloudpickle


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def rewrite_zip(path, changes, compress=()):
    """Write a zip anew with some entries changed, and some compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries.items():
            kind = zipfile.ZIP_DEFLATED if entry in compress else zipfile.ZIP_STORED
            archive.writestr(entry, data, compress_type=kind)


def plant_in_data(path, payload):
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    serialized = base64.b64encode(cloudpickle.dumps(payload)).decode()
    for key, value in data.items():
        if isinstance(value, dict) and ":serialized:" in value:
            data[key] = {":type:": "<class 'type'>", ":serialized:": serialized}
    rewrite_zip(path, {"data": json.dumps(data).encode()})
