"""The one place where the parts of a connection meet.

The modules are functions over :class:`~quicstack.connection.state.ConnectionState`, on a ladder where each knows only
what stands before it: ``state``, ``lifecycle``, ``retransmission``, ``key_update``, ``handshake``, ``frames``, then
``receive``, ``send`` and ``timers``, then ``connection``, the public face.
"""
