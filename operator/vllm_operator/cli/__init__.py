"""The command line: the planner with no cluster, and the operator's entry point."""
