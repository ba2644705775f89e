"""What Lilliput is measured against, and on what. Run `make bench`; read docs/benchmarks.md."""
