//! Native engines behind the ports.

pub mod buckets;
