"""The process that keeps models loaded between two `edgeai ask`, and how the second one finds it."""
