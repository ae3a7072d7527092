"""Says in which order; reads like the README."""
