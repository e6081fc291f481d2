"""TLS 1.3 without records: RFC 8446 as RFC 9001 §4 profiles it.

``settings`` says what to do, ``client`` and ``server`` do it and read like RFC 8446 Appendix A; both stand on
``handshake`` (messages in, events out). Below them: ``messages`` and ``extensions`` (bytes and values, by way of
``presentation``), ``key_schedule`` (secrets), ``groups`` (key exchange), ``signatures`` and ``certificate`` (proving
who one is), ``trust`` with ``certificate_path``, ``server_name`` and ``system_roots`` (believing it), ``epoch`` and
``alerts``.

Nothing here knows packets or connections: bytes of CRYPTO frames go in and come out, one level at a time.
"""
