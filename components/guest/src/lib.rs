//! What every component shares: the bindings of the ports, and the doors.
