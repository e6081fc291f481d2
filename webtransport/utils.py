"""Names that programs expect here; everything lives in :mod:`webtransport.certificates`."""

from __future__ import annotations

from webtransport.certificates import certificate_hash, generate_self_signed_cert

__all__ = ["certificate_hash", "generate_self_signed_cert"]
