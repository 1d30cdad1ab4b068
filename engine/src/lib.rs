//! Native engines behind the ports.
