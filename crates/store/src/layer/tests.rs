//! Layers round trip, answer as a sorted list would, and notice every damaged byte.
