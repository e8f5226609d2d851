"""Which variant of the kernels a processor gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from llama_core.backends.jit.build import library, variants
from llama_core.backends.jit.build.objects import target_machine
from llama_core.backends.jit.build.variants import NEON_DOT, choose, host_features

ZEN_5 = (
    "processor\t: 0\nflags\t\t: fpu avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni\n\nprocessor\t: 1\n"
)
ZEN_3 = "processor\t: 0\nflags\t\t: fpu avx2 fma f16c\n\nprocessor\t: 1\nflags\t\t: avx_vnni\n"
GRAVITON = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd asimdhp asimddp\nCPU part\t: 0xd0c\n"
RASPBERRY_4 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """described(text): be on Linux with this /proc/cpuinfo."""

    def set_to(text: str) -> None:
        monkeypatch.setattr(variants.sys, "platform", "linux")
        monkeypatch.setattr(Path, "read_text", lambda path, *_: text)

    return set_to


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ZEN_5, "avx512vnni"),
        (ZEN_3, "avx2"),
        (GRAVITON, "neondot"),
        (RASPBERRY_4, "portable"),
        ("", "portable"),
    ],
    ids=["Zen 5", "Zen 3", "Graviton", "Raspberry Pi 4", "says nothing"],
)
def test_linux_names_the_features(described: Callable[[str], None], text: str, name: str) -> None:
    described(text)
    assert choose(host_features()).name == name


def test_pairs_of_bfloat16_are_multiplied_where_the_host_can(described: Callable[[str], None]) -> None:
    described(ZEN_5)
    assert not choose(host_features()).pair_dots
    described(ZEN_5.replace("avx512_vnni", "avx512_vnni avx512_bf16"))
    assert choose(host_features()).pair_dots
    assert not choose(host_features(), "avx2").pair_dots


def test_every_apple_processor_has_dot_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants.sys, "platform", "darwin")
    monkeypatch.setattr(variants.platform, "machine", lambda: "arm64")
    assert choose(host_features()) is NEON_DOT


def test_a_system_of_which_llvm_knows_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise RuntimeError("failed to get host cpu features")

    monkeypatch.setattr(variants.sys, "platform", "win32")
    monkeypatch.setattr(llvm, "get_host_cpu_features", unknown)
    assert choose(host_features()).name == "portable"
    target_machine(variants.PORTABLE)


def test_what_a_forced_variant_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="lacks dotprod, which neondot needs"):
        choose({"avx2": True}, "neondot")


def test_a_clock_that_changes_makes_no_new_kernels(described: Callable[[str], None]) -> None:
    keys = set()
    for number in ("243.75", "100.00"):
        described(GRAVITON.replace("243.75", number))
        keys.add(library._processor())
    assert len(keys) == 1
