//! What Berth remembers between one CNI call and the next: attachment records, VF
//! claims, locks, the undo list of a running transaction, and the atomic files all
//! of them are made of. Nothing here changes a network; nothing here knows CNI.

pub mod atomic;
pub mod boot;
pub mod bridge;
pub mod claim;
pub mod dirs;
pub mod error;
pub mod format;
pub mod key;
pub mod lease;
pub mod lock;
pub mod mac;
pub mod node;
pub mod record;
pub mod steered;
pub mod testing;
pub mod undo;
pub mod uses;
pub mod vf;

pub use boot::Writer;
pub use bridge::{BridgeRecord, BridgeRecords};
pub use claim::{Claim, Claims};
pub use error::{Error, Kind, Result};
pub use key::Key;
pub use lock::{LockName, Locks};
pub use node::NodeFile;
pub use record::{Record, Records};
pub use steered::{Steer, Steered};
pub use undo::{FailedInverse, Fault, Faults, Undo, When};
pub use uses::Uses;
