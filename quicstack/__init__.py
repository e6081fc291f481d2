"""QUIC in pure Python: RFC 8999, 9000, 9001, 9002 and their extensions."""

__version__ = "0.1.0"
