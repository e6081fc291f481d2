"""Interoperation with other QUIC stacks, case by case, as the QUIC interop runner has them.

``endpoint`` is what runs in the real runner's container and here. ``run`` does the runner's work on this machine
without containers: it starts two endpoints, ``relay`` is the network between them, ``judge`` checks what passed there
as tshark reads it.
"""
