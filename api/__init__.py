"""The HTTP interface: Flask views over `services`."""
