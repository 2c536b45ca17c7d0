//! From a disk's capability to limits and to the cost model of iocost.

use berth_kernel::cgroup::iocost::{Model, Percent, Qos};

use crate::engine::knob::Value;
use crate::spec::IoSpec;

/// The model stands at this part of the capability: a model above what the disk does
/// gives no proportions (`io.weight`), as the disk itself is the limit then.
const MODEL_PERCENT: u64 = 75;
/// One operation costs as much as this many bytes, where the configuration says nothing.
const OPERATION: u64 = 8192;
/// Throttling by latency is off and the rate is the model's, neither more nor less: the
/// disk's caches would mislead a measured one.
const QOS: Qos = Qos {
    enable: true,
    rpct: Percent(0),
    rlat_usec: 0,
    wpct: Percent(0),
    wlat_usec: 0,
    min: Percent(10_000),
    max: Percent(10_000),
};

/// What a disk can do, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capability {
    /// Bytes read per second.
    pub(crate) read_bytes_per_sec: u64,
    /// Bytes written per second.
    pub(crate) write_bytes_per_sec: u64,
    /// Read operations per second, if configured.
    pub(crate) read_iops: Option<u64>,
    /// Write operations per second, if configured.
    pub(crate) write_iops: Option<u64>,
    /// Whether shares by weight are allowed on it.
    pub(crate) weights: bool,
}

impl Capability {
    /// The iocost setting for weights; `None` where they are not allowed.
    pub(crate) fn cost(&self) -> Option<Value> {
        let part = |n: u64| (n / 100 * MODEL_PERCENT + n % 100 * MODEL_PERCENT / 100).max(1);
        let (rbps, wbps) = (
            part(self.read_bytes_per_sec),
            part(self.write_bytes_per_sec),
        );
        let iops = |given: Option<u64>, bytes: u64| given.map_or(bytes / OPERATION, part).max(1);
        let riops = iops(self.read_iops, rbps);
        let wiops = iops(self.write_iops, wbps);
        let model = Model {
            rbps,
            rseqiops: riops,
            rrandiops: riops,
            wbps,
            wseqiops: wiops,
            wrandiops: wiops,
        };
        self.weights.then(|| Value::IoCost {
            model: model.to_string(),
            qos: QOS.to_string(),
        })
    }
}

/// The limits an entry of a spec stands for, read and write, bytes per second; `None`
/// if it stands for none, or for a share of a capability nobody configured.
pub(crate) fn limits(
    io: &IoSpec,
    capability: Option<&Capability>,
) -> Option<(Option<u64>, Option<u64>)> {
    if let Some(share) = io.share {
        let capability = capability?;
        return Some((
            Some(part(capability.read_bytes_per_sec, share)),
            Some(part(capability.write_bytes_per_sec, share)),
        ));
    }
    let limits = (io.read_bytes_per_sec, io.write_bytes_per_sec);
    (limits != (None, None)).then_some(limits)
}

/// `share` (above 0, at most 1) of a rate, in millionths, at least one byte.
pub(crate) fn part(rate: u64, share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a million after the clamp"
    )]
    let millionths = (share.clamp(0.0, 1.0) * 1e6).round() as u64;
    let bytes = u128::from(rate) * u128::from(millionths) / 1_000_000;
    u64::try_from(bytes).unwrap_or(rate).max(1)
}
