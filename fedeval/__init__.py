"""How good a system's recommendations are: metrics, protocols, intervals, baselines."""
