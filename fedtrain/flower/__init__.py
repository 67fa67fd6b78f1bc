"""Training through Flower: the same algorithms as its ClientApp and ServerApp, simulated or for real."""
