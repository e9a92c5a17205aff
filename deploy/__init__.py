"""What runs raftlock in containers: the engine, a cluster of three, and the test of it. Needs Python alone."""
