//! What should be: pure functions from the specs and what was read of the node to what
//! each workload gets.

pub(crate) mod cpu;
