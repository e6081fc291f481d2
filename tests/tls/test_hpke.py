"""HPKE against the first vectors of RFC 9180 §A.1.1.1."""

from __future__ import annotations

from quicstack.tls.hpke import Sender


def test_base_mode_with_x25519() -> None:
    ephemeral = bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
    public = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    sender = Sender(0x20, 1, public, info, lambda size: ephemeral)
    assert sender.enc.hex() == "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    text = b"Beauty is truth, truth beauty"
    sealed = [sender.seal(b"Count-%d" % number, text).hex() for number in range(3)]
    assert sealed == [
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
        "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84",
        "498dfcabd92e8acedc281e85af1cb4e3e31c7dc394a1ca20e173cb72516491588d96a19ad4a683518973dcc180",
    ]
