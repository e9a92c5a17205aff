"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# No deadline: a test must not depend on how fast the machine is.
settings.register_profile("raftlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("raftlock")

# A shell without job control starts background commands with SIGINT ignored, and all their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
