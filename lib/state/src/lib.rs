//! What Berth remembers between one CNI call and the next: attachment records, VF
//! claims, locks, the undo list of a running transaction, and the atomic files all
//! of them are made of. Nothing here changes a network; nothing here knows CNI.

pub mod key;
pub mod testing;
pub mod undo;

pub use key::Key;
pub use undo::{FailedInverse, Fault, Faults, Undo, When};
