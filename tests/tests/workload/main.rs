//! Suite `workload`.
fn main() {}
