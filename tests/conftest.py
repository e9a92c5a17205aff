"""What all tests share."""

from hypothesis import HealthCheck, settings

# No deadline: a test must not depend on how fast the machine is.
settings.register_profile("raftlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("raftlock")
