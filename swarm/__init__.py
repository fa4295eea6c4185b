"""swarm: coordinate async agents."""
