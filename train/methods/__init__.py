"""Which parameters are trained: adapters, quantised weights, freezing."""
