"""The parts of a connection, each testable alone; none of them knows the connection.

RFC 9000 §2-§5, §8-§10 and RFC 9001 §5.
"""
