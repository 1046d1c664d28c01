"""Trainshed's client, command line and embedded stack: what a user installs."""
