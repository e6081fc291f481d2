"""Bytes to values and back (RFC 9000 §12, §16-§19). Pure functions, total on hostile input: they return or raise
:class:`~quicstack.errors.TransportError`, nothing else."""
