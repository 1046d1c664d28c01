"""Where the bytes of the catalogue's datasets come from: one module an origin, asked in a fixed order."""
