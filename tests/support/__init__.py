"""What the tests stand on: model writers, fakes, oracles, a terminal. Imported like anything else."""
