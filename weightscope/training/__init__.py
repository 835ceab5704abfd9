"""The experiments of the papers that explain low ranks: their data, networks and training."""
