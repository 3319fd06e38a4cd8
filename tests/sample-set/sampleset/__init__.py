"""Debian packages rebuilt as RPMs: the sample set that tests and the demo compose images from."""
