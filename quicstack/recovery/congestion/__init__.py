"""Congestion controllers: the protocol, the law that RFC 9002 fixes for windows, and one file per algorithm."""
