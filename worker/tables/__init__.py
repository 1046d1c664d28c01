"""Reading files that people send: CSV, Parquet, NPZ and idx, into columns and arrays."""
