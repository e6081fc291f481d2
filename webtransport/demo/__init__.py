"""A demonstration over real sockets: in the terminal, or with a page for Chromium and Firefox."""
