"""What is measured, against whom: one module a row, one command each (`python -m benchmarks NAME`)."""
