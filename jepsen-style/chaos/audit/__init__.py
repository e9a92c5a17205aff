"""A long run under faults, after which the clients' own record and the audit must agree, operation by operation."""
