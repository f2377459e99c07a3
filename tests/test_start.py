"""What a continued run takes over from its earlier start."""

import pytest

from mtrl.config.compose import compose_run
from mtrl.training import resume


@pytest.mark.parametrize(
    ("asked", "there", "gpu", "expected"),
    [
        ("auto", {"device": "cpu", "compile": "inductor"}, True, "inductor"),
        ("auto", {"device": "cuda", "compile": "off"}, True, "off"),
        ("auto", {"device": "cuda", "compile": "cuda_graph"}, False, "auto"),
        ("auto", {"device": "cuda"}, True, "auto"),
        ("off", {"device": "cpu", "compile": "inductor"}, True, "off"),
    ],
)
def test_compilation_is_reused_on_the_device_that_it_was_chosen_for(monkeypatch, asked, there, gpu, expected):
    monkeypatch.setattr(resume, "cuda_available", lambda device: gpu)
    hardware = compose_run([f"hardware.compile={asked}"]).config.hardware
    reused = resume.reuse_hardware(hardware, there)
    assert reused.compile == expected


def test_compilation_of_another_device_is_chosen_anew():
    hardware = compose_run(["hardware.device=cpu"]).config.hardware
    reused = resume.reuse_hardware(hardware, {"device": "cuda", "compile": "cuda_graph"})
    assert reused.compile == "auto"
