#!/bin/bash
# Runs in the container of the QUIC interop runner: routes first, then the endpoint, whose exit status is the answer
# (127 for a test case that it does not know).
set -e
/setup.sh

# A client starts when the simulated network is there.
if [ "$ROLE" = client ]; then
  /wait-for-it.sh sim:57832 -s -t 30
fi

cd /quicstack
exec /venv/bin/python -m interop.endpoint
