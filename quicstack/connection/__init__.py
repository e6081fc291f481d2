"""The one place where the parts of a connection meet.

The modules are functions over :class:`~quicstack.connection.state.ConnectionState`, on a ladder where each knows only what
stands above it: ``state``, ``lifecycle``, ``retransmission``, ``handshake``, then ``receive``, ``send`` and ``timers``,
then ``connection``, the public face.
"""
